"""How the trainers' callbacks make a regularizer, and how its state is called in a checkpoint."""

import functools

import pytest
from torch import nn

from comhe.errors import UsageError
from comhe.regularizers import create_regularizer
from comhe.regularizers.integrations.blueprint import Blueprint


def rate(step):
    return 0.1


def test_the_key_tells_apart_what_has_another_state_and_nothing_else():
    keys = [
        Blueprint("ap-comhe", options).key
        for options in ({}, {"dim": 4}, {"include": "a"}, {"include": ["a", "b"]}, {"rate": rate})
    ]
    assert len(set(keys)) == len(keys)
    assert Blueprint("ap-comhe", {"weight": 0.5, "output_weight": lambda step: step, "seed": 3}).key == keys[0]
    assert " at 0x" not in Blueprint("ap-comhe", {"rate": lambda step: 0.1}).key  # the same in the next process


def test_penalties_are_logged_under_the_least_that_tells_them_apart():
    every = [Blueprint(name, options) for name, options in (("so", {}), ("so", {"weight": 2.0}), ("mhe", {}))]
    names = [one.log_name(other for other in every if other is not one) for one in every]
    assert names == ["penalty/so()", "penalty/so()|weight=2.0", "penalty/mhe"]


def maker(name):
    return lambda model: create_regularizer(name, model)


def test_the_full_key_tells_all_apart():
    sources = [maker("so"), maker("mhe"), functools.partial(rate, 1), functools.partial(rate, 2), rate]
    sources += [lambda model: 1, lambda model: 2]
    options = [{}, {"weight": 1.0}, {"weight": {"a": 1.0}}, {"weight": {"b": lambda step: 0.1}}, {"seed": 1}]
    options += [{"output_weight": lambda step: 0.1}, {"output_weight": lambda step: 0.2}]
    blueprints = [*(Blueprint(source, {}) for source in sources), *(Blueprint("so", each) for each in options)]
    keys = [blueprint.full_key for blueprint in blueprints]
    assert len(set(keys)) == len(keys)
    assert " at 0x" not in "".join(keys)
    assert [Blueprint(source, {}).full_key for source in (maker("so"), maker("mhe"))] == keys[:2]
    assert len({blueprint.key for blueprint in blueprints[7:]}) == 1
    assert Blueprint("so", {}).full_key == "so()"
    for blueprint in blueprints:
        assert blueprint.find(keys) == blueprint.full_key
        blueprint.check_alone(blueprints)
        with pytest.raises(UsageError, match="two callbacks are"):
            blueprint.check_alone([*blueprints, Blueprint(blueprint.source, blueprint.options)])
    assert Blueprint("so", {"weight": 3.0}).find(["mhe()", "so()|weight=1.0"]) == "so()|weight=1.0"
    assert Blueprint("so", {}).find(["mhe()", "so(steps=3)"]) is None


def test_it_builds_what_the_options_say():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3))
    assert repr(Blueprint("so", {"weight": 0.5}).build(model)) == repr(create_regularizer("so", model, weight=0.5))
    assert Blueprint(lambda model: create_regularizer("mhe", model), {}).build(model).name == "mhe"


def test_mistakes_are_told_before_training():
    with pytest.raises(UsageError, match="did you mean"):
        Blueprint("rp-cohme", {})
    with pytest.raises(UsageError, match="no option 'dimension'"):
        Blueprint("rp-comhe", {"dimension": 3})
    with pytest.raises(UsageError, match=r"options \(weight\) belong to a name"):
        Blueprint(lambda model: None, {"weight": 1.0})

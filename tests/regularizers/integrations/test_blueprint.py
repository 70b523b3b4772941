"""How the trainers' callbacks make a regularizer, and how its state is called in a checkpoint."""

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

"""Regularizers by name, and their options."""

import numpy as np
import pytest
from torch import nn

from comhe.errors import UnknownOptionError, UsageError
from comhe.regularizers import (
    Penalty,
    check_regularizer,
    create_regularizer,
    list_regularizers,
    register_regularizer,
    regularizer_options,
)
from comhe.regularizers.registry import _REGISTRY

NAMES = list_regularizers()
EVERY = pytest.mark.parametrize("name", NAMES)


def test_names():
    expected = {"none", "mhe", "hs-mhe", "rp-comhe", "ap-comhe", "adv-comhe", "group-comhe"}
    assert expected | {"orthogonal", "orthonormal", "so", "dso", "mc", "srip"} <= set(NAMES)
    assert NAMES[0] == "none"
    assert NAMES[1:] == sorted(NAMES[1:])
    assert set(list_regularizers("*-comhe")) == {"rp-comhe", "ap-comhe", "adv-comhe", "group-comhe"}
    assert list_regularizers("nothing*") == []


def test_unknown_names_and_options():
    with pytest.raises(ValueError, match="unknown regularizer 'rp-cohme'; did you mean rp-comhe"):
        create_regularizer("rp-cohme", nn.Linear(3, 3))
    with pytest.raises(ValueError, match=r"unknown regularizer '!'; there are .*mhe"):
        create_regularizer("!", nn.Linear(3, 3))
    with pytest.raises(TypeError, match="the first argument is the name of a regularizer, such as 'mhe', not a Linear"):
        create_regularizer(nn.Linear(3, 3), "mhe")
    with pytest.raises(TypeError, match=r"hs-mhe has no option 'dim'; its options are .*half_space.*weight.*include"):
        create_regularizer("hs-mhe", nn.Linear(3, 3), dim=4)


def test_a_taken_name_is_an_error():
    with pytest.raises(ValueError, match="'mhe' is already registered by MHE"):
        register_regularizer("mhe")(type("Other", (), {}))
    assert type(create_regularizer("mhe", nn.Linear(3, 3)).penalty).__name__ == "MHE"


@EVERY
def test_every_listed_option_is_accepted_with_its_default(name):
    options = regularizer_options(name)
    assert {"weight", "output_weight", "seed", "include", "exclude", "output"} <= set(options)
    model = nn.Sequential(nn.Linear(50, 4), nn.Linear(4, 3))
    as_text = {option: "none" for option, value in options.items() if value is None}  # as help shows them
    for given in (options, options | as_text):
        assert create_regularizer(name, model, **given)().item() == create_regularizer(name, model)().item()


@pytest.fixture
def registered():
    """A penalty of a user's own, under a name, for one test."""

    @register_regularizer("test-norm")
    class Norm(Penalty):
        default_weight = 0.25

        def __init__(self, *, power=2.0, **options):
            super().__init__(**options)
            self.power = power

        def function(self, w):
            return w.abs().pow(self.power).sum((-2, -1))

    yield "test-norm"
    del _REGISTRY["test-norm"]


def test_a_registered_penalty_is_as_good_as_a_built_in_one(registered):
    model = nn.Linear(4, 3)
    assert registered in list_regularizers()
    assert regularizer_options(registered) == regularizer_options("mc") | {"weight": 0.25, "power": 2.0}
    value = create_regularizer(registered, model, power=3.0)()
    assert value.item() == pytest.approx(0.25 * model.weight.abs().pow(3).sum().item())
    assert repr(create_regularizer(registered, model, weight=2.0)).startswith("test-norm(weight=2.0, output_weight=2.0")


def test_a_registered_function_is_a_penalty():
    @register_regularizer("test-function", default_weight=0.5)
    def norm(w):
        return w.square().sum((-2, -1))

    try:
        model = nn.Linear(4, 3)
        assert create_regularizer("test-function", model)().item() == pytest.approx(0.5 * norm(model.weight).item())
        with pytest.raises(UsageError, match="'test-function' is already registered by norm"):
            register_regularizer("test-function")(lambda w: w.sum((-2, -1)))
        del _REGISTRY["test-function"]
        for weight in (1.0, 2.0):  # the cell of a notebook runs again
            cell = f"@register('test-function', default_weight={weight})\ndef f(w): return w.sum((-2, -1))"
            exec(cell, {"__name__": "__main__", "register": register_regularizer})
            assert regularizer_options("test-function")["weight"] == weight
    finally:
        del _REGISTRY["test-function"]
    with pytest.raises(TypeError, match="int is neither a subclass of Penalty nor a function"):
        register_regularizer("test-function")(int)


def test_a_decorator_without_a_name_is_an_error():
    with pytest.raises(TypeError, match=r"write @register_regularizer\('my-penalty'\), not <function"):

        @register_regularizer
        def mine(w):
            return w.mean((-2, -1))


def test_options_can_be_checked_without_a_model():
    check_regularizer("rp-comhe", dim=30, weight=0.5, include="*.conv")
    for options in ({"dim": 1}, {"weight": -1.0}, {"output_weight": "much"}):
        with pytest.raises(UsageError, match=f"{next(iter(options))} must be"):
            check_regularizer("rp-comhe", **options)
    with pytest.raises(UnknownOptionError, match="rp-comhe has no option 'dimension'"):
        check_regularizer("rp-comhe", dimension=3)
    with pytest.raises(UsageError, match="unknown kind of layer 'convolution'"):
        check_regularizer("so", kinds="convolution")
    with pytest.raises(UsageError, match="did you mean rp-comhe"):
        regularizer_options("rp-comhee")


def test_a_penalty_that_updates_a_state_has_a_first_one():
    class Forgetful(Penalty):
        def value(self, w, layer, state, draws):
            return w.mean((-2, -1))

        def update(self, w, layer, state, draws):
            return w.mean(-2)

    with pytest.raises(TypeError, match=r"Forgetful has update, but no init\(w, layer, seed\)"):
        register_regularizer("forgetful")(Forgetful)


@pytest.mark.parametrize(
    ("name", "option", "wanted"),
    [
        ("rp-comhe", {"dim": "abc"}, "dim must be a number"),
        ("rp-comhe", {"span": "abc"}, "span must be True or False"),
        ("hs-mhe", {"geodesic": "yes"}, "geodesic must be True or False"),
        ("hs-mhe", {"max_neurons": "5"}, "max_neurons must be a number"),
        ("hs-mhe", {"exclude": 0}, "given as text, one or several, not 0"),
        ("hs-mhe", {"kinds": None}, "given as text, one or several, not None"),
    ],
)
def test_words_for_numbers_are_refused_and_numbers_for_words(name, option, wanted):
    with pytest.raises(UsageError, match=wanted):
        create_regularizer(name, nn.Linear(5, 4), **option)


@EVERY
def test_numbers_of_numpy_are_numbers_and_counts_are_whole(name):
    model = nn.Sequential(nn.Linear(50, 4), nn.Linear(4, 3))
    options = {key: value for key, value in regularizer_options(name).items() if type(value) in (int, float)}
    usual = create_regularizer(name, model)().item()
    for option, value in options.items():
        number = np.int64(value) if type(value) is int else np.float32(value)
        found = create_regularizer(name, model, **{option: number})().item()
        assert found == pytest.approx(usual, rel=1e-4)
        if type(value) is int and option not in ("s", "min_neurons"):
            for wrong in (value + 0.5, float(value), None):
                with pytest.raises(UsageError, match=f"{option} must be a whole number.*, not {wrong!r}"):
                    create_regularizer(name, model, **{option: wrong})


def test_an_option_that_may_be_a_word_is_one(monkeypatch):
    class TakesWords(Penalty):
        """Has an option that is a number or a word."""

        def __init__(self, *, power: float | str = 2.0) -> None:
            self.power = power

        def function(self, w):
            return w.square().mean((-2, -1))

    monkeypatch.setitem(_REGISTRY, "takes-words", TakesWords)
    assert create_regularizer("takes-words", nn.Linear(5, 4), power="auto").penalty.power == "auto"

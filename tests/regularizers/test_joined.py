"""Branches whose outputs a later layer takes joined, which are no output layers."""

import itertools
import warnings

import pytest
from torch import nn

from comhe.regularizers.selection import select

from .networks import Model, linear


def told(model):
    """The output layers, and what is said of them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        layers = select(model).layers
    return [layer.name for layer in layers if layer.role == "output"], " ".join(str(each.message) for each in caught)


JOINED = {
    "two branches": Model(drug=linear(30, 64, 16), protein=linear(50, 64, 24), affinity=linear(40, 64, 1)),
    "two of equal width": Model(user=linear(30, 64, 16), item=linear(40, 64, 16), rating=linear(32, 64, 1)),
    "one that is used twice": Model(tower=linear(30, 64, 16), score=linear(32, 1)),
    "a branch and embeddings": Model(
        user=nn.Embedding(50, 8), items=nn.Embedding(60, 32), mlp=linear(64, 32, 16, 8), predict=linear(16, 1)
    ),
    "a branch and its inputs": Model(a=nn.Embedding(9, 8), cross=linear(17, 64, 32), dnn_linear=linear(49, 1)),
    "as many as a branch takes": Model(
        user=nn.Embedding(50, 8), mlp=nn.ModuleList([linear(16, 32), linear(32, 16), linear(16, 8)]), last=linear(16, 1)
    ),
    "layers in a list": Model(
        user=nn.Embedding(50, 8), mlp=nn.ModuleList([linear(64, 32), linear(32, 8)]), predict=linear(16, 1)
    ),
}


@pytest.mark.parametrize("what", JOINED)
def test_a_last_layer_of_one_neuron_takes_the_branches_that_are_joined(what):
    assert told(JOINED[what]) == ([], "")


def test_a_model_that_is_one_neuron_joins_nothing():
    assert told(linear(9, 1)) == ([], "")


BESIDE = {
    "a critic of states": (Model(body=linear(9, 16), actor=linear(16, 4), critic=linear(16, 1)), "actor", None),
    "a network for each": (Model(actor=linear(8, 16, 4), critic=linear(8, 16, 1)), "actor.1", None),
    "a critic of actions": (Model(actor=linear(8, 64, 4), critic=linear(12, 64, 1)), "actor.1", "critic.1"),
    "a layer for the values of actions": (
        Model(body=linear(9, 32, 16), actor=linear(16, 4), critic=linear(20, 1)),
        "actor",
        "critic",
    ),
    "two parts that add up": (
        Model(body=linear(9, 16), mean=linear(16, 8), deviation=linear(16, 8), critic=linear(16, 1)),
        "deviation",
        "mean",
    ),
    "heads in a dictionary": (
        Model(body=linear(9, 16), nets=nn.ModuleDict({"actor": linear(16, 4), "critic": linear(16, 1)})),
        "nets.actor",
        None,
    ),
    "networks in a dictionary": (
        Model(body=linear(9, 16), nets=nn.ModuleDict({"actor": linear(16, 8, 4), "critic": linear(16, 8, 1)})),
        "nets.actor.1",
        None,
    ),
}


@pytest.mark.parametrize("what", BESIDE)
def test_what_starts_from_the_same_inputs_is_not_joined(what):
    model, taken, other = BESIDE[what]
    found, message = told(model)
    assert found == [taken]
    assert f" {other}" in message if other else not message


@pytest.mark.parametrize("widths", [(12, 10, 6), (128, 64, 32)])
@pytest.mark.parametrize("classes", [1, 5])
def test_branches_of_any_widths_that_a_later_layer_takes_are_not_told(widths, classes):
    a, b, c = widths
    model = Model(a=linear(300, 200, a), b=linear(310, 210, b), c=linear(7, 40, c), both=linear(a + b + c, 64, classes))
    assert told(model) == (["both.1"] if classes > 1 else [], "")


@pytest.mark.parametrize("classes", [1, 2, 6])
@pytest.mark.parametrize("levels", [2, 4])
def test_maps_that_are_joined_on_the_way_up_are_no_output(classes, levels):
    """The last layer has the inputs of the deepest one, where there are two levels."""
    widths = [16 * 2**level for level in range(levels)]
    model = Model(**{f"down{n}": convolutions(m, n) for m, n in itertools.pairwise([3, *widths])})
    for m, n in itertools.pairwise(widths[::-1]):
        model.add_module(f"up{n}", convolutions(m + n, n))
    model.add_module("last_maps", nn.Conv2d(16, classes, 1))
    assert told(model) == (["last_maps"] if classes > 1 else [], "")


def convolutions(a, b):
    return nn.Sequential(nn.Conv2d(a, b, 3), nn.ReLU(), nn.Conv2d(b, b, 3), nn.ReLU())


def test_linear_layers_that_may_be_joined_or_act_are_told():
    """A critic takes the actions and the states that they depend on."""
    model = Model(a=linear(3, 64), b=linear(64, 128), c=linear(192, 64), last_layer=linear(64, 1))
    assert "the output layer may be any of b, last_layer; b is taken" in told(model)[1]


def test_what_one_neuron_may_take_joined_is_told():
    items, deep = nn.Embedding(9, 8), linear(17, 64, 32)
    found, message = told(Model(items=items, square=linear(8, 8), deep=deep, last_layer=linear(32, 1)))
    assert (found, "last_layer is taken" in message) == ([], True)
    assert "any of dnn_linear, deep.1" in told(Model(items=items, dnn_linear=linear(80, 1), deep=deep))[1]


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_gated_layer_is_no_output(outputs):
    """The next layer takes half of its outputs, as many as no layer makes."""
    blocks = nn.ModuleList(Model(attention=linear(16, 16), ff=linear(16, 128), back=linear(64, 16)) for _ in range(2))
    model = Model(enter=linear(5, 16), blocks=blocks, last_layer=linear(16, outputs))
    assert told(model) == (["last_layer"] if outputs > 1 else [], "")


def test_towers_of_which_one_takes_half_as_many_inputs_are_told():
    message = told(Model(user=linear(30, 64, 16), item=linear(8, 64, 16)))[1]
    assert "any of user.1, item.1" in message
    assert "pass None if there is none" in message  # the embeddings of both are hidden layers

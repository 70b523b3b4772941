"""The structure of a model: it changes with what decides the selection, and with nothing else."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from comhe.regularizers import RegularizerWarning, create_regularizer
from comhe.regularizers.structure import Structure, changes


def network():
    return nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)), nn.Linear(6, 3))


def rename(model):
    body = model._modules.pop("3")
    model.add_module("head", body)


def move(model):
    """The same modules in the same order, with another parent."""
    model.add_module("0", nn.Sequential())
    linear = model[2]._modules.pop("0")
    model[2].add_module("0", linear)


CHANGED = {
    "replaced": lambda m: setattr(m, "3", nn.Linear(6, 7)),
    "replaced by its like": lambda m: setattr(m[2], "0", nn.Linear(6, 6)),
    "appended": lambda m: m.append(nn.Linear(3, 3)),
    "deleted": lambda m: m.__delitem__(1),
    "renamed": rename,
    "moved": move,
    "shape": lambda m: setattr(m[3], "weight", nn.Parameter(torch.randn(5, 6))),
    "shape in place": lambda m: setattr(m[3].weight, "data", torch.randn(5, 6)),
    "tied": lambda m: setattr(m[2][0], "weight", m[0].weight),
    "no parameter any more": lambda m: m[3].register_parameter("bias", None),
    "parametrized": lambda m: parametrizations.weight_norm(m[0]),
}
SAME = {
    "half": lambda m: m.half(),
    "moved to another device": lambda m: m.to("meta"),
    "emptied": lambda m: m.to_empty(device="cpu"),
    "frozen": lambda m: m.requires_grad_(False),
    "evaluated": lambda m: m.eval(),
    "loaded": lambda m: m.load_state_dict(network().state_dict(), assign=True),
    "new tensors": lambda m: setattr(m[3], "weight", nn.Parameter(torch.randn(3, 6))),
    "run": lambda m: m(torch.randn(4, 6)).sum().backward(),
}


@pytest.mark.parametrize("what", CHANGED)
def test_what_decides_the_selection_is_seen(what):
    model = network()
    structure = Structure(model)
    assert not structure.has_changed(model)
    CHANGED[what](model)
    assert structure.has_changed(model)
    assert not Structure(model).has_changed(model)


@pytest.mark.parametrize("what", SAME)
def test_what_does_not_is_not(what):
    model = network()
    structure = Structure(model)
    for _ in range(2):
        SAME[what](model)
        assert not structure.has_changed(model)


def test_untying_and_removing_a_parametrization_are_seen():
    model = network()
    model[2][0].weight = model[0].weight
    tied = Structure(model)
    model[2][0].weight = nn.Parameter(model[0].weight.detach().clone())
    assert tied.has_changed(model)
    parametrizations.orthogonal(model[0])
    structure = Structure(model)
    parametrize.remove_parametrizations(model[0], "weight")
    assert structure.has_changed(model)


def test_a_lazy_module_changes_when_it_sees_an_input():
    model = nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 3))
    structure = Structure(model)
    assert not structure.has_changed(model)
    model(torch.randn(2, 5))
    assert structure.has_changed(model)


def test_gradients_wanted_are_no_structure_but_are_kept():
    model = network()
    structure = Structure(model)
    assert all(structure.trainable)
    model[0].weight.requires_grad_(False)
    assert not structure.has_changed(model)
    assert structure.trainable.count(False) == 1


def test_changes_of_many_layers_are_a_short_line():
    from comhe.regularizers.selection import select

    after = select(nn.Sequential(*(nn.Linear(3, 3) for _ in range(20))))[0]
    assert changes([], after) == "new: 0, 1, 2, 3, 4 and 15 more"
    assert changes(after, after[:18]) == "gone: 18, 19"


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.to(torch.cfloat),
        lambda layer: setattr(layer, "weight", nn.Parameter(layer.weight.detach().to_sparse())),
        lambda layer: setattr(layer, "weight", nn.Parameter(layer.weight.detach().to(torch.float8_e4m3fn), False)),
    ],
    ids=["complex", "sparse", "quantized"],
)
@pytest.mark.filterwarnings("ignore:Complex modules")
def test_weights_that_have_no_angles_any_more_are_left_out(change, request):
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    regularizer = create_regularizer("mhe", model)
    change(model[0])
    with pytest.warns(RegularizerWarning, match="gone: 0"):
        value = regularizer()
    torch.testing.assert_close(value, create_regularizer("mhe", model)())
    ((name, reason),) = [(item.name, item.reason) for item in regularizer.skipped]
    assert name == "0"
    assert reason.startswith(f"Linear.weight is {request.node.callspec.id}")

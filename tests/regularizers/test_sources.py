"""The parameters behind a view, found without their names."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from comhe.regularizers import NoNeuronsError, create_regularizer, hyperspherical_energy, register_neurons
from comhe.regularizers.selection import select
from comhe.regularizers.sources import leaves, sources, traced

LAYERS = [
    (nn.Linear(4, 3), {"weight"}),
    (nn.Conv2d(4, 6, 3, groups=2), {"weight"}),
    (nn.Embedding(9, 4, padding_idx=2), {"weight"}),
    (nn.MultiheadAttention(8, 2), {"in_proj_weight"}),
    (nn.LSTM(4, 3, num_layers=2), {"weight_ih_l0"}),
    (parametrizations.weight_norm(nn.Linear(4, 3)), {f"parametrizations.weight.original{i}" for i in (0, 1)}),
    (parametrizations.spectral_norm(nn.Conv1d(4, 3, 2)), {"parametrizations.weight.original"}),
    (prune.l1_unstructured(nn.Linear(4, 3), "weight", 0.5), {"weight_orig"}),
]


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(("layer", "names"), LAYERS, ids=lambda value: type(value).__name__)
def test_sources(layer, names, frozen):
    trains = {name: p.requires_grad for name, p in layer.named_parameters()}
    layer.requires_grad_(not frozen)
    try:
        assert {name for name, p in layer.named_parameters() if any(p is q for q in sources(layer))} == names
        assert all(p.requires_grad is not frozen for p in layer.parameters())
        with torch.no_grad():
            assert len(sources(layer)) == len(names)
        with torch.inference_mode():
            assert len(sources(layer)) == len(names)
    finally:
        for name, p in layer.named_parameters():
            p.requires_grad_(trains[name])


def test_sources_of_one_part():
    layer = nn.MultiheadAttention(8, 2, kdim=4)
    assert sources(layer, "k_proj_weight") == (layer.k_proj_weight,)
    assert list(traced(layer)) == ["q_proj_weight", "k_proj_weight", "v_proj_weight"]
    with pytest.raises(NoNeuronsError, match="choose one with part="):
        sources(layer)


def test_leaves_of_a_tensor():
    a, b, c = (torch.ones(2, requires_grad=flag) for flag in (True, True, False))
    assert set(map(id, leaves(a * (a + b) * c))) == {id(a), id(b)}
    assert leaves(c) == ()
    assert leaves(a) == (a,)


class Prototypes(nn.Module):
    """Of a name and an orientation of its own, as in losses for metric learning."""

    def __init__(self):
        super().__init__()
        self.W = nn.Parameter(torch.randn(6, 10))


class Mixed(nn.Module):
    """The product of two submodules' weights; a third one is a layer of its own."""

    def __init__(self):
        super().__init__()
        self.down, self.up, self.other = nn.Linear(6, 2, bias=False), nn.Linear(2, 8, bias=False), nn.Linear(8, 4)


@pytest.fixture(scope="module", autouse=True)
def _rules():
    register_neurons(Prototypes)(lambda module: module.W.mT)
    register_neurons(Mixed)(lambda module: module.up.weight @ module.down.weight)


def test_rules_may_read_any_parameter():
    model = nn.Sequential(nn.Linear(8, 6), Prototypes())
    layers = select(model).layers
    assert [(layer.name, layer.role, layer.shape) for layer in layers] == [
        ("0", "hidden", (6, 8)),
        ("1", "output", (10, 6)),
    ]
    assert layers[1].sources == (model[1].W,)
    assert all(layer.trainable for layer in layers)
    model[1].W.requires_grad_(False)  # a layer looks at the parameter as it is now
    assert [layer.trainable for layer in layers] == [True, False]
    skipped = create_regularizer("mhe", model).skipped
    assert [(item.name, item.reason) for item in skipped] == [("1", "frozen (requires_grad is False)")]


def test_a_rule_claims_the_submodules_that_it_reads():
    model = nn.Sequential(Mixed(), nn.Linear(4, 3))
    regularizer = create_regularizer("mhe", model)
    assert {layer.name: layer.shape for layer in regularizer.layers} == {"0": (8, 6), "0.other": (4, 8), "1": (3, 4)}
    assert regularizer.skipped == []
    regularizer().backward()
    assert model[0].up.weight.grad.any()
    assert model[0].down.weight.grad.any()


def test_layers_trained_in_part_train():
    model = nn.Sequential(Mixed(), nn.Linear(4, 3))
    model[0].down.requires_grad_(False)
    (layer,) = select(model, include="0", exclude="0.other").layers
    assert layer.trainable
    model[0].up.requires_grad_(False)
    assert model[0].other.weight.requires_grad
    assert not layer.trainable


@pytest.mark.parametrize("frozen", [False, True])
def test_ties_are_told_by_the_parameters(frozen):
    model = nn.Sequential(*(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)) for _ in range(2)), Prototypes())
    model.append(Prototypes())
    model[1].parametrizations.weight.original0 = model[0].parametrizations.weight.original0
    assert len(select(model).layers) == 4  # half a tie is none
    model[1].parametrizations.weight.original1 = model[0].parametrizations.weight.original1
    model[3].W = model[2].W
    model.requires_grad_(not frozen)
    found = select(model)
    assert [layer.name for layer in found.layers] == ["0", "2"]
    assert {item.name: item.reason for item in found.skipped} == {"1": "tied to 0", "3": "tied to 2"}


class Part(nn.Module):
    """A part of a weight that several layers share."""

    def __init__(self, bank, part):
        super().__init__()
        self.bank, self.part = bank, part

    def forward(self, _):
        return self.bank[self.part]


def test_different_parts_of_one_parameter_are_no_ties(normal):
    bank = nn.Parameter(normal(3, 6, 6))
    parts = (0, 1, 1, 2, (0, slice(4)))
    model = nn.Sequential(*(nn.Linear(6, 6).double() for _ in parts))
    for layer, part in zip(model, parts, strict=True):
        parametrize.register_parametrization(layer, "weight", Part(bank, part), unsafe=True)
    regularizer = create_regularizer("hs-mhe", model, output=None)
    assert [layer.name for layer in regularizer.layers] == ["0", "1", "3", "4"]
    assert [item.name for item in regularizer.skipped if item.reason == "tied to 1"] == ["2"]
    expected = sum(hyperspherical_energy(w, half_space=True) for w in (*bank, bank[0, :4]))
    torch.testing.assert_close(regularizer(), expected)

"""Fused projections: queries, keys and values do not compete with one another."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from comhe.regularizers import create_regularizer, hyperspherical_energy
from comhe.regularizers.fused import Fused
from comhe.regularizers.selection import select


class Attention(nn.Module):
    def __init__(self, rows, name="qkv", inputs=8, inner=8, heads=2):
        super().__init__()
        self.num_heads = heads
        self.add_module(name, nn.Linear(inputs, rows))
        if inner:
            self.proj = nn.Sequential(nn.Linear(inner, inputs), nn.Dropout())


class BloomAttention(Attention):
    """Queries, keys and values alternate within each head."""


class CodeGenAttention(Attention):
    """Four blocks of queries, values and keys."""

    embed_dim = 8


class GroupedAttention(Attention):
    """Two query heads share a key and a value."""

    def __init__(self, rows, name="qkv", **told):
        super().__init__(rows, name, heads=4)
        vars(self).update(told)


class CrossAttention(Attention):
    """Whose queries are projected by a layer of their own."""

    def __init__(self, rows, name):
        super().__init__(rows, name)
        self.q = nn.Linear(8, 8)


def shape(attention, name="qkv"):
    layers = {layer.name: layer.shape for layer in select(nn.ModuleDict({"block": attention}), output=None).layers}
    return layers[f"block.{name}"]


@pytest.mark.parametrize(
    ("attention", "name", "expected"),
    [
        (Attention(24), "qkv", (3, 8, 8)),
        (Attention(24, inner=None), "qkv", (3, 8, 8)),
        (Attention(48, inner=16), "qkv", (3, 16, 8)),  # heads wider than the model
        (Attention(24, "query_key_value"), "query_key_value", (3, 8, 8)),
        (Attention(16, "kv"), "kv", (2, 8, 8)),
        (CrossAttention(16, "qkv"), "qkv", (2, 8, 8)),
        (Attention(24, "wide"), "wide", (24, 8)),  # neither the name
        (Attention(8, "qkv"), "qkv", (8, 8)),  # nor the shape
        (Attention(24, "in_proj"), "in_proj", (3, 8, 8)),
        (nn.ModuleDict({"in_proj": nn.Linear(8, 24)}), "in_proj", (24, 8)),  # of a state-space model, say
    ],
)
def test_name_and_shape_decide(attention, name, expected):
    assert shape(attention, name) == expected


def test_wrapped_projections():
    wrapped = nn.ModuleDict({"qkv": nn.Sequential(nn.Conv2d(8, 24, 1), nn.BatchNorm2d(24)), "proj": nn.Conv2d(8, 8, 1)})
    assert shape(wrapped, "qkv.0") == (3, 8, 8)


@pytest.mark.parametrize(
    "told",
    [{"num_key_value_heads": 2, "head_dim": 2}, {"n_kv_heads": 2}, {"config": SimpleNamespace(num_key_value_heads=2)}],
    ids=str,
)
@pytest.mark.parametrize("name", ["qkv", "wqkv", "qkv_proj"])
def test_heads_that_share_keys_and_values(told, name):
    """Twice as many rows as the output projection has inputs, which might be keys and values as well."""
    model = nn.ModuleDict({"block": GroupedAttention(16, name, **told)})
    found = select(model, output=None)
    w = model["block"].get_submodule(name).weight
    layers = {layer.name: layer.neurons() for layer in found.layers}
    assert not found.skipped
    for part, rows in zip("qkv", w.split([8, 4, 4]), strict=True):
        assert layers.pop(f"block.{name}.{part}").equal(rows)
    assert set(layers) == {"block.proj.0"}


@pytest.mark.parametrize(
    "attention",
    [
        Attention(24, inner=16),
        Attention(16),  # of keys and values, or of grouped heads
        GroupedAttention(16),
        GroupedAttention(20, num_key_value_heads=2, head_dim=2),
        GroupedAttention(24, num_key_value_heads=2, head_dim=2),
    ],
)
def test_what_the_attention_does_not_tell_is_said(attention):
    regularizer = create_regularizer("mhe", nn.ModuleDict({"block": attention}), output=None)
    rows = len(attention.qkv.weight)
    assert ("block.qkv", (rows, 8)) in [(layer.name, layer.shape) for layer in regularizer.layers]
    (note,) = regularizer.skipped
    assert note.name == "block.qkv"
    assert f"does not tell which of its {rows} rows are queries" in note.reason
    assert f"note on block.qkv: regularized as one set: {type(attention).__name__}" in str(regularizer.report())


def test_parts_have_weights_of_their_own_and_one_gradient():
    model = nn.ModuleDict({"block": GroupedAttention(16, num_kv_heads=2)}).double()
    regularizer = create_regularizer("mhe", model, include="*.qkv.*", weight={"*.q": 2.0, "*": 0.5}, output=None)
    w = model["block"].qkv.weight
    energies = [hyperspherical_energy(rows) for rows in w.detach().split([8, 4, 4])]
    assert regularizer().item() == pytest.approx(2 * energies[0].item() + 0.5 * sum(energies[1:]).item(), rel=1e-12)
    regularizer().backward()
    assert w.grad.norm(dim=1).min() > 0
    renewed = w.detach().clone().requires_grad_()
    regularizer({"block.qkv.weight": renewed}).backward()
    torch.testing.assert_close(renewed.grad, w.grad)
    w.requires_grad_(False)
    assert not regularizer.layers
    (again,) = torch.autograd.grad(regularizer({"block.qkv.weight": renewed}), renewed)
    torch.testing.assert_close(again, renewed.grad)


def test_sets_follow_one_another():
    w = torch.randn(12, 5)
    assert Fused((4, 4, 4))(w).equal(torch.stack(w.chunk(3)))
    assert Fused((4, 1, 1), 2, index=2)(w).equal(w[[5, 11]])


@pytest.mark.parametrize(("cls", "blocks"), [(BloomAttention, 2), (CodeGenAttention, 4)])
def test_sets_that_alternate(normal, cls, blocks):
    attention = cls(24, "qkv_proj")
    regularizer = create_regularizer("mhe", nn.ModuleDict({"block": attention}), output=None)
    layer = next(layer for layer in regularizer.layers if layer.name == "block.qkv_proj")
    x = normal(5, 8, dtype=torch.float32)
    parts = (x @ attention.qkv_proj.weight.mT).view(5, blocks, 3, -1).unbind(2)
    for set_, part in zip(layer.neurons(), parts, strict=True):
        torch.testing.assert_close(x @ set_.mT, part.flatten(1))


def test_the_energy_is_the_mean_over_the_sets():
    model = nn.ModuleDict({"block": Attention(24)}).double()
    regularizer = create_regularizer("mhe", model, include="block.qkv", output=None)
    energies = [hyperspherical_energy(w) for w in model["block"].qkv.weight.chunk(3)]
    assert regularizer().item() == pytest.approx((sum(energies) / 3).item(), rel=1e-12)

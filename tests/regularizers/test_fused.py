"""Fused projections: queries, keys and values do not compete with one another."""

import pytest
import torch
from torch import nn

from comhe.regularizers import NoNeuronsError, create_regularizer, hyperspherical_energy
from comhe.regularizers.fused import Fused, fused
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
        (Attention(16, "qkv"), "qkv", (2, 8, 8)),  # the queries come from elsewhere
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


def test_unequal_parts_are_skipped_with_their_sizes():
    found = select(nn.ModuleDict({"block": Attention(16 + 2 * 4, inner=16, inputs=8)}))
    assert [layer.name for layer in found.layers] == ["block.proj.0"]
    (skipped,) = found.skipped
    assert skipped.name == "block.qkv"
    assert "unequal sizes" in skipped.reason
    assert "24 rows" in skipped.reason
    with pytest.raises(NoNeuronsError, match="register_neurons"):
        fused("qkv", dict(Attention(24, inner=16).named_modules()), torch.ones(24, 8))


def test_sets_follow_one_another():
    w = torch.randn(12, 5)
    assert Fused(3)(w).equal(torch.stack(w.chunk(3)))


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

"""Blocks of rows, and the layers computed over them."""

import pytest
import torch
from torch.nn import functional as F

from comhe.zoo.points import chain
from comhe.zoo.points.chain import Chain, row_blocks

CPU = torch.device("cpu")


def test_blocks_are_complete_groups_in_order(monkeypatch):
    monkeypatch.setattr(chain, "BLOCK", 24)
    assert row_blocks(10, 2, 3, CPU) == [slice(0, 8), slice(8, 10)]
    assert row_blocks(10, 5, 100, CPU) == [slice(0, 5), slice(5, 10)]
    assert row_blocks(3, 1, 1, CPU) == [slice(0, 3)]


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("width", [3, chain.NARROW + 1])
def test_layers_are_linear_batch_norm_and_relu(width):
    torch.manual_seed(0)
    x = torch.randn(40, width, dtype=torch.float64)
    weights = [torch.randn(6, width, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)]
    gammas, betas = ([torch.randn(n, dtype=torch.float64) for n in (6, 4)] for _ in range(2))
    layers = Chain(x, None, None, 0, (1e-5, 1e-5), [*weights, *gammas, *betas])
    for layer, (weight, gamma, beta) in enumerate(zip(weights, gammas, betas, strict=True)):
        layers.advance()
        x = F.batch_norm(F.linear(x, weight), None, None, gamma, beta, training=True).relu()
        torch.testing.assert_close(layers.activations(layer), x)

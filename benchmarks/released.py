"""The released TensorFlow formula, ported line by line to PyTorch: what we are timed against.

The neurons and their negatives are concatenated, the 2N x 2N cosines made with 1e-4 inside the norms, the strict lower
triangle kept, and the mean over its entries taken; random projections are drawn for every input width in every step and
looped over; autograd does the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from comhe.regularizers import create_regularizer, neurons


def energy(w: Tensor, half_space: bool) -> Tensor:
    """Mean inverse squared distance of the pairs of rows of w [N, d]."""
    if half_space:
        w = torch.cat((w, -w))
    norms = (w.square().sum(1, keepdim=True) + 1e-4).sqrt()
    squared = 2 - 2 * (w @ w.T) / (norms @ norms.T)
    lower = torch.tril(torch.ones_like(squared), -1)
    return (squared.masked_fill(lower == 0, 1).reciprocal() * lower).sum() / lower.sum()


class Released:
    """Half-space MHE, or CoMHE with ``count`` random projections to ``dim`` dimensions, of every layer of a model."""

    def __init__(self, model: nn.Module, count: int = 0, dim: int = 40) -> None:
        self.layers = create_regularizer("hs-mhe", model).layers
        self.count, self.dim = count, dim

    def __call__(self) -> Tensor:
        projections: dict[int, list[Tensor]] = {}
        total = torch.zeros(())
        for layer in self.layers:
            w = neurons(layer.module)
            d = w.shape[1]
            if layer.role == "output":
                total = total + 10 * energy(w, half_space=False)
            elif self.count == 0 or d <= self.dim:
                total = total + energy(w, half_space=True)
            else:
                if d not in projections:
                    projections[d] = [torch.randn(d, self.dim) for _ in range(self.count)]
                terms = [energy(w @ p, half_space=True) for p in projections[d]]
                total = total + sum(terms) / self.count
        return total

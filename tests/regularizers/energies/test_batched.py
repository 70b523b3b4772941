"""The energies of many layers as one operation; on the CPU by the ordinary kernels' stand-in."""

import pytest
import torch

from comhe.regularizers import hyperspherical_energy
from comhe.regularizers.energies import batched, kernels
from comhe.regularizers.energies.energy import pair_sums
from comhe.regularizers.energies.potential import Potential


@pytest.fixture(autouse=True)
def _ordinary_kernels(monkeypatch):
    def energy_sums(neurons, potential, eps, factors, *, with_gradient, precision):
        results = [pair_sums(w, potential, eps, with_gradient) for w in neurons]
        gradients = [None if g is None else f * g for (_, g), f in zip(results, factors, strict=True)]
        return [s for s, _ in results], gradients

    monkeypatch.setattr(kernels, "energy_sums", energy_sums)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("half_space", [False, True])
def test_weighted_sum_and_gradients(normal, reduction, half_space):
    layers = [normal(4, 9, seed=1).requires_grad_(), normal(2, 5, 7, seed=2).requires_grad_()]
    weights = torch.tensor([0.5, 3.0], dtype=torch.float64)
    value = batched.batched_energies(layers, weights, Potential(2.0, False, half_space), reduction, "fp32")
    expected = sum(
        weight * hyperspherical_energy(w, 2, half_space, reduction=reduction).mean()
        for w, weight in zip(layers, weights, strict=True)
    )
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)  # factors are float32
    for found, grad in zip(
        torch.autograd.grad(2 * value, layers), torch.autograd.grad(2 * expected, layers), strict=True
    ):
        torch.testing.assert_close(found, grad, rtol=1e-6, atol=1e-8)

"""The energies of many layers as one operation; on the CPU by the ordinary kernels' stand-in."""

import pytest
import torch

from comhe.regularizers import hyperspherical_energy
from comhe.regularizers.energies import batched, kernels
from comhe.regularizers.energies.energy import neuron_sums
from comhe.regularizers.energies.potential import Potential
from comhe.regularizers.energies.terms import Terms


@pytest.fixture(autouse=True)
def _ordinary_kernels(monkeypatch):
    def energy_sums(neurons, terms, factors, *, with_gradient):
        results = [neuron_sums(w, terms, with_gradient) for w in neurons]
        gradients = [factor * sums.product(w) for sums, w, factor in zip(results, neurons, factors, strict=True)]
        return [sums.energy for sums in results], gradients

    monkeypatch.setattr(kernels, "energy_sums", energy_sums)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("half_space", [False, True])
def test_weighted_sum_and_gradients(normal, reduction, half_space):
    layers = [normal(4, 9, seed=1).requires_grad_(), normal(2, 5, 7, seed=2).requires_grad_()]
    weights = torch.tensor([0.5, 3.0], dtype=torch.float64)
    value = batched.batched_energies(layers, weights, Terms(Potential(2.0, False, half_space)), reduction)
    expected = sum(
        weight * hyperspherical_energy(w, 2, half_space, reduction=reduction).mean()
        for w, weight in zip(layers, weights, strict=True)
    )
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)  # factors are float32
    for found, grad in zip(
        torch.autograd.grad(2 * value, layers), torch.autograd.grad(2 * expected, layers), strict=True
    ):
        torch.testing.assert_close(found, grad, rtol=1e-6, atol=1e-8)

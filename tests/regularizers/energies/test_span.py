import pytest
import torch

from comhe.regularizers import hyperspherical_energy
from comhe.regularizers.energies.potential import Potential
from comhe.regularizers.energies.span import span_energies, span_sums
from comhe.regularizers.energies.terms import Terms


@pytest.mark.parametrize("half_space", [False, True])
def test_energies_and_gradients_are_those_of_the_ambient_projections(normal, half_space):
    """With Z given, W P^T for P = Z Q^T, where Q is an orthonormal basis of the neurons' span, held fixed."""
    layers = [normal(4, 9, seed=1).requires_grad_(), normal(2, 4, 7, seed=2).requires_grad_()]
    z = normal(3, 5, 4, seed=3)
    energies = span_energies(layers, z, Terms(Potential(2.0, False, half_space)))
    assert energies.shape == (3, 3)
    grads = torch.autograd.grad(energies.sum(), layers)
    for w, energy, grad in zip(layers, (energies[0], energies[1:]), grads, strict=True):
        u = torch.nn.functional.normalize(w.detach(), dim=-1)
        basis = torch.linalg.solve_triangular(torch.linalg.cholesky(u @ u.mT), u, upper=False)  # Q^T
        expected = hyperspherical_energy(w[..., None, :, :] @ (z @ basis[..., None, :, :]).mT, 2, half_space)
        torch.testing.assert_close(energy, expected)
        torch.testing.assert_close(grad, torch.autograd.grad(expected.sum(), w)[0], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("half_space", [False, True])
def test_layers_of_different_numbers_of_neurons_are_each_as_alone(normal, half_space):
    layers = [normal(4, 9, seed=1), normal(2, 6, 7, seed=2), normal(3, 8, seed=4)]
    layers[1][0, 2] = 0
    z, terms = normal(3, 5, 6, seed=3), Terms(Potential(2.0, False, half_space), min_norm=0.3)
    layers = [w.requires_grad_() for w in layers]
    together = span_sums(layers, z, terms)
    alone = torch.cat([span_sums([w], z[..., : w.shape[-2]], terms) for w in layers])
    torch.testing.assert_close(together, alone)
    push = normal(4, 3, seed=5)
    expected = torch.autograd.grad((push * alone).sum(), layers)
    for found, grad in zip(torch.autograd.grad((push * together).sum(), layers), expected, strict=True):
        torch.testing.assert_close(found, grad, rtol=1e-7, atol=1e-10)


def test_no_gradient_is_computed_where_none_is_wanted(normal):
    energy = span_energies([normal(4, 9)], normal(3, 5, 4), Terms(Potential()))
    assert not energy.requires_grad


def test_a_neuron_too_short_for_float32_has_no_direction_in_float64_either(normal, monkeypatch):
    """As where nothing may depend on a number, and all that is N x N is computed in float64."""
    from comhe.regularizers.energies import span

    w = normal(5, 9).float()
    w[1] *= 1e-25
    z = normal(3, 4, 5, seed=1).float()
    found = []
    for branches in (True, False):
        monkeypatch.setattr(span, "can_branch", lambda w, known=branches: known)
        leaf = w.clone().requires_grad_()
        energies = span_energies([leaf], z, Terms(Potential()))
        found.append((energies.detach(), *torch.autograd.grad(energies.sum(), leaf)))
    assert not found[1][1][1].any()
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)

"""The gradient of pairs at any angle, against 40 digits."""

import math
import sys
from dataclasses import replace

import pytest
import torch

from comhe.regularizers import hyperspherical_energy
from comhe.regularizers.energies import near, sums
from comhe.regularizers.energies.energy import neuron_sums
from comhe.regularizers.energies.potential import Potential
from comhe.regularizers.energies.reference import reference_gradient
from comhe.regularizers.energies.terms import Terms

mpmath = pytest.importorskip("mpmath")
ANGLES = (0.0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.3, 1.0)
POWERS = pytest.mark.parametrize("s", [0, 0.5, 1, 2, 4])
SPACES = pytest.mark.parametrize("half_space", [False, True], ids=["full", "half"])
METRICS = pytest.mark.parametrize("geodesic", [False, True], ids=["chord", "angle"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
SHAPES = pytest.mark.parametrize("shape", [(3, 4), (4, 3)], ids=["N<=d", "N>d"])


def pair_at(normal, shape, angle, sign=1):
    """Neurons of which the first two are at this angle; the second has another length, or points the other way."""
    w = torch.nn.functional.normalize(normal(*shape, seed=4), dim=-1)
    aside = torch.nn.functional.normalize(w[1] - (w[1] @ w[0]) * w[0], dim=0)
    w[1] = sign * 3 * (math.cos(angle) * w[0] + math.sin(angle) * aside)
    return w


def exact(w, potential, dtype):
    rows = [[mpmath.mpf(x) for x in row] for row in w.tolist()]
    floor, parallel = potential.floor(dtype), potential.parallel(dtype)
    options = {"floor": floor, "parallel": parallel, "numbers": mpmath.mp}
    found = reference_gradient(rows, potential.s, potential.half_space, potential.geodesic, **options)
    return torch.tensor([[float(x) for x in row] for row in found], dtype=torch.float64)


def error(found, expected):
    """Of the first two neurons, whose gradient is the largest there is."""
    return float((found.double() - expected)[:2].norm() / expected[:2].norm())


BOUNDS = {torch.float32: 1e-4, torch.float64: 1e-6}


def energy_error(w, potential):
    """Of the gradient of the energy."""
    w = w.requires_grad_()
    energy = hyperspherical_energy(w, potential.s, potential.half_space, geodesic=potential.geodesic)
    (found,) = torch.autograd.grad(energy, w)
    with mpmath.workdps(40):
        return error(found, exact(w.detach(), potential, w.dtype))


@POWERS
@SPACES
@METRICS
@DTYPES
@SHAPES
def test_gradient_at_all_angles(normal, s, half_space, geodesic, dtype, shape):
    potential = Potential(s, geodesic, half_space)
    for angle in ANGLES:
        w = pair_at(normal, shape, angle, -1 if half_space else 1).to(dtype)
        assert energy_error(w, potential) < BOUNDS[dtype], f"at an angle of {angle}"


@DTYPES
@SHAPES
def test_opposite_neurons_of_a_geodesic_energy(normal, dtype, shape):
    for angle in ANGLES:
        w = pair_at(normal, shape, angle, -1).to(dtype)
        assert energy_error(w, Potential(1, True)) < BOUNDS[dtype], f"at an angle of {angle}"


@POWERS
@SPACES
@METRICS
@SHAPES
def test_what_does_not_look_at_the_neurons_agrees(monkeypatch, normal, s, half_space, geodesic, shape):
    """Where nothing may depend on the neurons, all is computed from cosines in float64, whose own rounding is 1e-16."""
    potential = Potential(s, geodesic, half_space)
    with monkeypatch.context() as patch:
        patch.setattr(sums, "BRANCHING", ())
        for angle in (0.0, *ANGLES[3:]):
            w = pair_at(normal, shape, angle, -1 if half_space else 1).float()
            found = neuron_sums(w, Terms(potential), True)
            with mpmath.workdps(40):
                expected = exact(w, potential, torch.float32) * potential.pairs(len(w))
            assert error(found.product(w), expected) < 1e-4, f"at an angle of {angle}"


@SPACES
@METRICS
@pytest.mark.parametrize("angle", [1e-4, 3e-3])
def test_value_and_gradient_agree_on_both_sides_of_the_floor(normal, half_space, geodesic, angle):
    """Finite differences of the value in steps that are small against the angle, with the floor of float32."""
    terms = Terms(Potential(2.0, geodesic, half_space), rows=torch.float32)
    w = pair_at(normal, (3, 5), angle)
    v = torch.zeros_like(w)
    v[0] = normal(5, seed=9)
    step = 1e-3 * angle
    ahead, behind = (neuron_sums(w + sign * step * v, terms, False).energy for sign in (1, -1))
    expected = (ahead - behind) / (2 * step)
    found = (neuron_sums(w, terms, True).product(w) * v).sum()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


@DTYPES
@SPACES
@METRICS
@pytest.mark.parametrize("shape", [(4, 6), (9, 4), (5, 1), (70, 3)])
def test_parallel_rows_do_not_push_each_other(normal, dtype, half_space, geodesic, shape):
    """One direction and its multiples, to the rounding: the truth is 0, not rounding times the largest slope."""
    w = (normal(1, shape[1]) * torch.linspace(1, 7.3, shape[0])[:, None].double()).to(dtype)
    if half_space or geodesic:
        w[1::2] *= -1
    w.requires_grad_()
    value = hyperspherical_energy(w, 2, half_space, geodesic=geodesic)
    (grad,) = torch.autograd.grad(value, w, create_graph=True)
    assert value.isfinite()
    assert grad.count_nonzero() == 0
    (again,) = torch.autograd.grad((grad * w.detach()).sum(), w)
    assert again.abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_too_many_near_pairs_are_computed_otherwise(monkeypatch, normal, dtype):
    w = (normal(1, 6) + 1e-2 * normal(30, 6, seed=1)).to(dtype)
    terms = Terms(Potential(2.0, False, True))
    expected = neuron_sums(w, terms, True)
    monkeypatch.setattr(near, "MANY", 10)
    found = neuron_sums(w, terms, True)
    torch.testing.assert_close(found.energy, expected.energy, rtol=1e-6, atol=0)
    assert (found.product(w) - expected.product(w)).norm() < 1e-5 * expected.product(w).norm()


@SPACES
def test_second_derivatives_of_near_pairs(normal, half_space):
    """Against differences of the gradient, which was compared above."""
    energy = sys.modules["comhe.regularizers.energies.energy"]
    terms = replace(Terms(Potential(2.0, False, half_space)), rows=torch.float32)
    for angle in (1e-4, 1e-2):
        w, v = pair_at(normal, (4, 6), angle), normal(4, 6, seed=8)
        step = 1e-4 * angle
        ahead, behind = (neuron_sums(w + sign * step * v, terms, True).product(w + sign * step * v) for sign in (1, -1))
        found = energy.curvature(w[None], v[None], terms)[0]
        assert (found - (ahead - behind) / (2 * step)).norm() < 1e-3 * found.norm()

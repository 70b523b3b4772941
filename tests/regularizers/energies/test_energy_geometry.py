"""What the sphere knows: invariances, expectations, optima and famous configurations."""

import math

import pytest
import torch

from comhe.regularizers import hyperspherical_energy

POWERS = pytest.mark.parametrize("s", [0, 1, 2, 3.5])
SPACES = pytest.mark.parametrize("half_space", [False, True], ids=["full", "half"])
METRICS = pytest.mark.parametrize("geodesic", [False, True], ids=["chord", "angle"])


@METRICS
@SPACES
@POWERS
def test_invariances(normal, s, half_space, geodesic):
    def energy(w):
        return hyperspherical_energy(w, s, half_space, geodesic=geodesic).item()

    w = normal(7, 5)
    same = pytest.approx(energy(w), rel=1e-12)
    rotation = torch.linalg.qr(normal(5, 5, seed=1))[0]
    assert energy(w @ rotation) == same
    assert energy(w[torch.tensor([3, 1, 6, 0, 2, 5, 4])]) == same
    assert energy(w * torch.logspace(-3, 3, 7, dtype=w.dtype)[:, None]) == same
    assert energy(torch.nn.functional.pad(w, (0, 3))) == same
    assert energy(-w) == same
    flipped = w * torch.tensor([1, -1, 1, 1, -1, -1, 1])[:, None]
    assert (energy(flipped) == same) == half_space
    assert energy(w @ torch.diag(torch.arange(1.0, 6.0).double())) != same


@SPACES
def test_gradient_is_tangent_to_the_sphere(normal, half_space):
    w = normal(7, 5).requires_grad_()
    (grad,) = torch.autograd.grad(hyperspherical_energy(w, half_space=half_space), w)
    torch.testing.assert_close((grad * w).sum(-1), torch.zeros(7).double(), rtol=0, atol=1e-13)


def expected(s, d):
    """Mean of f over two independent isotropic neurons."""
    a = (d - 1) / 2
    if s == 0:
        digamma = [torch.digamma(torch.tensor(x, dtype=torch.float64)).item() for x in (a, d / 2)]
        return -math.log(2) - (digamma[0] - digamma[1]) / 2
    return 2**-s * math.gamma(a - s / 2) * math.gamma(2 * a) / (math.gamma(2 * a - s / 2) * math.gamma(a))


def antipodal(s):
    return -math.log(4) if s == 0 else 2.0**-s


@SPACES
@pytest.mark.parametrize("s", [0, 1, 2])
@pytest.mark.parametrize(("n", "d"), [(5, 9), (12, 8), (2, 27)])
def test_isotropic_neurons_have_the_expected_energy(normal, s, half_space, n, d):
    energies = hyperspherical_energy(normal(6000, n, d), s, half_space)
    mean = expected(s, d)
    if s == 2:
        assert mean == pytest.approx((d - 2) / (2 * (d - 3)))
    if half_space:
        mean = (2 * (n - 1) * mean + antipodal(s)) / (2 * n - 1)
    error = energies.std().item() / 6000**0.5
    assert energies.mean().item() == pytest.approx(mean, abs=4 * error)
    assert 4 * error < 0.02 * abs(mean) + 0.002  # the tolerance means something


def gradient(w, *options):
    w = w.clone().requires_grad_()
    return torch.autograd.grad(hyperspherical_energy(w, *options), w)[0]


@POWERS
@pytest.mark.parametrize("n", [2, 3, 6])
def test_regular_simplex_is_the_full_space_optimum(normal, s, n):
    simplex = torch.eye(n, dtype=torch.float64) - 1 / n  # n points of rank n - 1
    squared = 2 * n / (n - 1)
    best = -math.log(squared) if s == 0 else squared ** (-s / 2)
    assert hyperspherical_energy(simplex, s).item() == pytest.approx(best, rel=1e-13)
    assert gradient(simplex, s).abs().max() < 1e-13
    assert hyperspherical_energy(normal(200, n, n), s).min() > best


@POWERS
@pytest.mark.parametrize(("n", "d"), [(2, 2), (4, 4), (5, 9)])
def test_orthonormal_frame_is_the_half_space_optimum(normal, s, n, d):
    frame = torch.linalg.qr(normal(d, n))[0].mT
    right_angle = -math.log(2) if s == 0 else 2 ** (-s / 2)
    best = (2 * (n - 1) * right_angle + antipodal(s)) / (2 * n - 1)
    if s == 2:
        assert best == pytest.approx((n - 0.75) / (2 * n - 1))
    assert hyperspherical_energy(frame, s, True).item() == pytest.approx(best, rel=1e-12)
    assert gradient(frame, s, True).abs().max() < 1e-13
    assert hyperspherical_energy(normal(200, n, d), s, True).min() > best


def descend(w, *options, **keywords):
    w = w.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([w], max_iter=120, tolerance_change=1e-12, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = hyperspherical_energy(w, *options, **keywords)
        value.backward()
        return value

    optimizer.step(closure)
    return w.detach()


@pytest.mark.parametrize(("n", "energy"), [(4, 3.674234614), (12, 49.165253058), (24, 223.347074052)])
def test_thomson_problem(normal, n, energy):
    reached = math.inf
    for seed in range(6):
        w = descend(normal(n, 3, seed=seed), 1, reduction="sum")
        reached = min(reached, hyperspherical_energy(w, 1, reduction="sum").item() / 2)  # ordered pairs count twice
        assert reached > energy - 1e-8
        if reached < energy + 1e-6:
            return
    pytest.fail(f"the best of six starts reached {reached}, not {energy}")


def test_six_lines_in_space_reach_the_welch_bound(normal):
    n, d = 6, 3
    bound = (n - d) / (d * (n - 1))
    reached = []
    for seed in range(4):
        w = torch.nn.functional.normalize(descend(normal(n, d, seed=seed), 2, True), dim=-1)
        i, j = torch.triu_indices(n, n, offset=1)
        squared = (w @ w.mT)[i, j] ** 2
        assert squared.mean() > bound - 1e-12
        reached.append(squared)
    best = min(reached, key=lambda squared: squared.mean())
    torch.testing.assert_close(best, torch.full_like(best, bound), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("n", "d"), [(5, 3), (9, 4)])
def test_half_space_descent_approaches_but_respects_welch(normal, n, d):
    def coherence(w):
        u = torch.nn.functional.normalize(w, dim=-1)
        return ((u @ u.mT).square().sum() - n).item() / (n * (n - 1))

    w = normal(n, d)
    bound = (n - d) / (d * (n - 1))
    after = coherence(descend(w, 2, True))
    assert bound - 1e-12 < after < min(coherence(w), 1.1 * bound)

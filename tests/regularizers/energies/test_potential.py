import math

import pytest
import torch

from comhe.regularizers.energies.potential import Potential

ALL = pytest.mark.parametrize(
    "potential",
    [Potential(s, geodesic, half) for s in (0, 1, 2, 3.5) for geodesic in (False, True) for half in (False, True)],
)
DISTANCES = torch.linspace(0.05, 3.95, 9, dtype=torch.float64)
BOTH = (torch.float32, torch.float64)


def derivatives(function, z):
    """The first two derivatives in c = 1 - z/2, by automatic differentiation."""
    z = z.clone().requires_grad_()
    (first,) = torch.autograd.grad(function(z).sum(), z, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), z)
    return -2 * first.detach(), 4 * second


@ALL
@pytest.mark.parametrize("dtype", BOTH)
@pytest.mark.parametrize("opposite", [False, True])
def test_derivatives_above_and_below_the_floor(potential, dtype, opposite):
    floor = potential.floor(dtype)
    near = torch.tensor([1e-20, 0.5 * floor, 2 * floor], dtype=torch.float64)
    for z in (DISTANCES, near, near.flip(0) * 7):
        value, first, second = potential.derivatives(z, dtype, 2, opposite=opposite)
        bends, straightens = derivatives(lambda z: potential.derivatives(z, dtype, 0, opposite=opposite)[0], z)
        torch.testing.assert_close(first, bends, rtol=1e-6, atol=1e-13)
        torch.testing.assert_close(second, straightens, rtol=1e-5, atol=1e-6)
        assert value.isfinite().all()


@ALL
def test_sums(potential):
    total, slope, factor = potential.sum_and_slope(1 - DISTANCES[None] / 2)
    value, first = potential.derivatives(DISTANCES, torch.float64, 1)
    assert total.item() == pytest.approx(value.sum().item())
    torch.testing.assert_close(factor * slope[0], first)
    again, none, _ = potential.sum_and_slope(1 - DISTANCES[None] / 2, with_gradient=False)
    assert none is None
    assert again.item() == pytest.approx(total.item())


@ALL
def test_constants(potential):
    right_angle, opposite = torch.tensor([2.0, 4.0], dtype=torch.float64)
    assert potential.orthogonal == pytest.approx(potential.derivatives(right_angle, torch.float64, 0)[0].item())
    assert potential.antipodal == pytest.approx(potential.point(opposite, torch.float64)[0].item(), rel=1e-6, abs=1e-6)
    assert potential.pairs(4) == (28 if potential.half_space else 6)


@ALL
@pytest.mark.parametrize("dtype", BOTH)
def test_parallel_neurons_have_a_large_finite_value_and_no_slope(potential, dtype):
    z = torch.tensor([0.0, 2.0], dtype=dtype)
    (parallel, apart), (none, some) = potential.derivatives(z, dtype, 1, parallel=potential.parallel(dtype))
    assert math.isfinite(parallel)
    assert parallel > apart
    assert none == 0
    assert potential.half_space or some > 0


@ALL
@pytest.mark.parametrize("dtype", BOTH)
def test_a_pair_never_pushes_harder_than_at_the_floor(potential, dtype):
    z = torch.logspace(-22, 0, 200, dtype=torch.float64)
    push = potential.derivatives(z, dtype, 1)[1] * (z - z * z / 4).sqrt()  # slope times sine
    floor = potential.floor(dtype)
    assert push.max() < 1.05 * potential.derivatives(torch.tensor([floor]).double(), dtype, 1)[1] * floor**0.5
    if not potential.geodesic and potential.s:
        bound = potential.s * floor ** (-(potential.s + 1) / 2) * (2 if potential.half_space else 1)
        assert push.max() < 1.0001 * bound

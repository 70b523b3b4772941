import math

import pytest
import torch

from comhe.regularizers.energies.potential import Potential

ALL = pytest.mark.parametrize(
    "potential",
    [Potential(s, geodesic, half) for s in (0, 1, 2, 3.5) for geodesic in (False, True) for half in (False, True)],
)
COSINES = torch.linspace(-0.95, 0.95, 9, dtype=torch.float64)


@ALL
def test_derivative_and_sums(potential):
    c = COSINES.clone().requires_grad_()
    (expected,) = torch.autograd.grad(potential.value(c).sum(), c)
    torch.testing.assert_close(potential.slope(COSINES), expected)
    total, slope, factor = potential.sum_and_slope(COSINES[None])
    assert total.item() == pytest.approx(potential.value(COSINES).sum().item())
    torch.testing.assert_close(factor * slope[0], expected)


@ALL
def test_constants(potential):
    zero = torch.zeros((), dtype=torch.float64)
    assert potential.orthogonal == pytest.approx(potential.value(zero).item())
    assert potential.antipodal == pytest.approx(potential.point(zero - 1).item())
    assert potential.pairs(4) == (28 if potential.half_space else 6)


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parallel_neurons_have_a_large_finite_value_and_derivative(potential, dtype):
    one = torch.ones((), dtype=dtype)
    assert potential.value(one).isfinite()
    assert math.isfinite(potential.slope(one))
    assert potential.slope(one) > potential.slope(0.9 * one)

"""Statistics in blocks."""

import pytest
import torch

from comhe.zoo.points.moments import Moments


def blocks_of(x, size=50):
    return x.split(size)


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("mean", [0.0, 1e4])
def test_moments_are_those_of_float64(cross, mean):
    """A mean of 1e4 deviations: its square has no digit left for the variance in float32."""
    g = torch.Generator().manual_seed(0)
    x = mean + torch.randn(330, 4, generator=g) @ torch.diag(torch.tensor([1.0, 0.5, 2.0, 0.0]))
    moments = Moments(cross)
    for block in blocks_of(x):
        moments.add(block)
    center, spread = moments.result()
    exact = x.double()
    torch.testing.assert_close(center, exact.mean(0), rtol=1e-7, atol=1e-7)
    expected = exact.t().cov(correction=0) if cross else exact.var(0, correction=0)
    torch.testing.assert_close(spread, expected, rtol=1e-5, atol=1e-5)


def test_a_first_block_unlike_all_others():
    x = torch.cat((torch.full((50, 1), 100.0), torch.randn(950, 1, generator=torch.Generator().manual_seed(0))))
    moments = Moments()
    for block in blocks_of(x):
        moments.add(block)
    mean, variance = moments.result()
    torch.testing.assert_close(mean, x.double().mean(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(variance, x.double().var(0, correction=0), rtol=1e-5, atol=0)


def test_a_constant_has_no_variance():
    moments = Moments()
    moments.add(torch.full((7, 2), 0.1))
    assert moments.result()[1].tolist() == [0, 0]


def test_added_blocks_come_back_about_the_origin():
    moments = Moments(cross=True)
    for block in blocks_of(torch.randn(80, 3, generator=torch.Generator().manual_seed(0))):
        torch.testing.assert_close(moments.add(block) + moments.origin, block)

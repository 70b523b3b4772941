"""Zero, tiny, huge, equal and opposite neurons: finite everywhere, and the closest pairs still repel each other."""

import pytest
import torch

from comhe.regularizers import cosines, hyperspherical_energy, orthonormal

POWERS = pytest.mark.parametrize("s", [0, 1, 2, 3.5, 20])
SPACES = pytest.mark.parametrize("half_space", [False, True], ids=["full", "half"])
METRICS = pytest.mark.parametrize("geodesic", [False, True], ids=["chord", "angle"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
SHAPES = pytest.mark.parametrize("shape", [(6, 9), (9, 5)], ids=["N<=d", "N>d"])


def value_and_gradient(w, *options, **keywords):
    w = w.clone().requires_grad_()
    value = hyperspherical_energy(w, *options, **keywords)
    value.backward()
    assert value.isfinite()
    assert w.grad.isfinite().all()
    return value.item(), w.grad


def degenerate(normal, shape, dtype):
    w = normal(*shape, dtype=dtype)
    w[1] = w[0]
    w[2] = -w[0]
    w[3] = 0
    w[4] = 3 * w[0]
    return w


@POWERS
@SPACES
@METRICS
@DTYPES
@SHAPES
def test_all_degenerates_at_once(normal, s, half_space, geodesic, dtype, shape):
    w = degenerate(normal, shape, dtype)
    for eps in (0.0, 1e-4):
        _, grad = value_and_gradient(w, s, half_space, geodesic=geodesic, eps=eps)
        if eps == 0:
            assert grad[3].count_nonzero() == 0  # no direction, no gradient


@SPACES
@METRICS
@DTYPES
@pytest.mark.parametrize("s", [0, 1, 2, 3.5])
@pytest.mark.parametrize("scale", [1e-10, 1e-5, 1e5, 1e10])
def test_degenerates_of_any_scale(normal, s, half_space, geodesic, dtype, scale):
    value_and_gradient(degenerate(normal, (9, 5), dtype) * scale, s, half_space, geodesic=geodesic)


@pytest.mark.parametrize("s", [0, 2, 20])
@SPACES
@DTYPES
def test_neurons_that_are_all_equal_or_all_zero(s, half_space, dtype):
    value_and_gradient(torch.ones(5, 4, dtype=dtype), s, half_space)
    value, grad = value_and_gradient(torch.zeros(5, 4, dtype=dtype), s, half_space)
    orthogonal, _ = value_and_gradient(torch.eye(5, dtype=dtype), s, half_space)
    assert value == pytest.approx(orthogonal)  # a zero neuron counts as orthogonal to all others
    assert grad.count_nonzero() == 0


@SPACES
@DTYPES
@pytest.mark.parametrize("s", [0, 1, 2, 20])
@pytest.mark.parametrize("scale", [1e-17, 1e-12, 1e-6, 1e6, 1e12, 1e17])
def test_scale_is_irrelevant_at_extremes(normal, s, half_space, dtype, scale):
    w = torch.nn.functional.normalize(normal(6, 9, dtype=dtype), dim=-1)
    value, grad = value_and_gradient(w, s, half_space)
    for rows in (slice(None), slice(0, 1)):  # all neurons, or a single dying or exploding one
        scaled = w.clone()
        scaled[rows] *= scale
        other, other_grad = value_and_gradient(scaled, s, half_space)
        assert other == pytest.approx(value, rel=1e-4)
        torch.testing.assert_close(other_grad[rows] * scale, grad[rows], rtol=1e-3, atol=1e-4 * float(grad.abs().max()))


@pytest.mark.parametrize("half_space", [False, True])
def test_dying_neuron_fades_out_under_eps(normal, half_space):
    w = normal(6, 9)
    gone = w.clone()
    gone[2] = 0
    limit, _ = value_and_gradient(gone, 2, half_space, eps=1e-4)
    distances = []
    for exponent in range(8):
        w[2] = normal(9, seed=2) * 10.0**-exponent
        value, grad = value_and_gradient(w, 2, half_space, eps=1e-4)
        distances.append(abs(value - limit))
        assert grad.abs().max() < 100
    assert distances[-1] < 1e-6 < distances[0]
    assert distances[3:] == sorted(distances[3:], reverse=True)


@pytest.mark.parametrize("shape", [(6, 9), (9, 5)])
def test_neurons_too_large_for_their_square(normal, shape):
    w = normal(*shape, dtype=torch.float32)
    w[0] *= 1e25
    w[1] *= 1e25
    value, _ = value_and_gradient(w)
    assert value == value_and_gradient(torch.cat((torch.zeros(2, shape[1]), w[2:])))[0]
    w[0, 0] = torch.inf
    assert hyperspherical_energy(w).isnan()


@pytest.mark.parametrize(("s", "scale"), [(2, 1e-15), (20, 1e-2)])
def test_small_duplicates(normal, s, scale):
    w = normal(6, 9, dtype=torch.float32) * scale
    w[1] = w[0]
    value_and_gradient(w, s)


@POWERS
@SPACES
@METRICS
@SHAPES
@pytest.mark.parametrize(
    ("dtype", "gap"),
    [(torch.float32, gap) for gap in (1e-2, 1e-3, 1e-4, 1e-5)] + [(torch.float64, gap) for gap in (1e-3, 1e-8, 1e-10)],
)
def test_near_duplicates_repel(normal, s, half_space, geodesic, shape, dtype, gap):
    """Below the resolution of the cosine a clamp would leave these pairs, which matter most, without a gradient."""
    w = normal(*shape)
    w[1] = w[0] + gap * normal(shape[1], seed=1)
    if half_space:
        w[1] = -w[1]  # a near antipode is as bad there
    w = w.to(dtype)

    def distance(w):
        u, v = torch.nn.functional.normalize(w[:2], dim=-1)
        return (u + v if half_space else u - v).norm().item()

    before = distance(w.double())
    for together in (w, w[:2]):  # among others, and alone, where nothing else could drive them apart by chance
        _, grad = value_and_gradient(together, s, half_space, geodesic=geodesic)
        leaf = together.clone().requires_grad_()
        value = hyperspherical_energy(leaf, s, half_space, geodesic=geodesic)
        (again,) = torch.autograd.grad(value, leaf, create_graph=True)  # the other way to make the same gradient
        assert (again - grad).abs().max() < 0.1 * grad.abs().max()
        grad = grad.double()
        assert grad[:2].abs().max() > 1e-6
        grad = grad / grad[:2].abs().max()
        assert distance(together.double() - 0.01 * before * grad) > 1.001 * before


@DTYPES
@SPACES
def test_repulsion_does_not_fall_as_neurons_approach(normal, half_space, dtype):
    """The torque on a pair may be bounded, but it never drops to zero before the pair coincides."""
    w = normal(4, 8)
    gaps = [1e-1, 1e-2, 1e-3] if dtype == torch.float32 else [1e-1, 1e-3, 1e-5, 1e-7]
    norms = []
    for gap in gaps:
        w[1] = w[0] + gap * normal(8, seed=1)
        _, grad = value_and_gradient(w.to(dtype), 2, half_space)
        norms.append(grad[0].norm().item())
    assert norms == sorted(norms)


@DTYPES
def test_cosines_and_orthonormal_of_dead_and_extreme_rows(normal, dtype):
    w = normal(5, 7, dtype=dtype)
    w[0] = 0
    w[1] *= 1e-10
    w[2] *= 1e10
    w.requires_grad_()
    c = cosines(w)
    assert c[0].count_nonzero() == 0
    torch.testing.assert_close(c.diagonal()[1:], torch.ones(4, dtype=dtype))
    (grad,) = torch.autograd.grad(orthonormal(w), w)
    assert grad.isfinite().all()
    assert grad[0].count_nonzero() == 0


@pytest.mark.parametrize("s", [0, 2, 3.5])
@SPACES
@METRICS
@SHAPES
def test_weights_that_are_lost_have_no_energy(normal, s, half_space, geodesic, shape):
    w = normal(2, *shape, dtype=torch.float32)
    w[1, 2, 3] = torch.nan
    for lost in (w, w.masked_fill(w == w, torch.nan)):  # one entry, or all
        for options in ({}, {"eps": 1e-4}, {"min_norm": 0.01}):
            value = hyperspherical_energy(lost, s, half_space, geodesic=geodesic, **options)
            assert value[1].isnan()
            assert lost is not w or value[0].isfinite()

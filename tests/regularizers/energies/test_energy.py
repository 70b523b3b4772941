"""The energy against its definition, pair by pair, and against the released TensorFlow formula."""

import itertools
import math

import pytest
import torch

from comhe.regularizers import hyperspherical_energy
from comhe.regularizers.energies.reference import reference_energy

POWERS = (0, 1, 2, 3.5)
SPACES = pytest.mark.parametrize("half_space", [False, True], ids=["full", "half"])
METRICS = pytest.mark.parametrize("geodesic", [False, True], ids=["chord", "angle"])


def released(w, s, half_space, geodesic):
    """The released code, line by line: filters are columns, the negatives are concatenated, the triangle is strict."""
    filt = w.mT
    if half_space:
        filt = torch.cat([filt, -filt], dim=1)
    filt_num = filt.shape[1]
    filt_norm = torch.sqrt(torch.sum(filt * filt, dim=0, keepdim=True) + 1e-4)
    inner_pro = (filt.mT @ filt) / (filt_norm.mT @ filt_norm)
    final = torch.arccos(inner_pro) / math.pi + 1e-4 if geodesic else 2.0 - 2.0 * inner_pro
    final = -torch.log(final) if s == 0 else torch.pow(final, -s if geodesic else -s / 2)
    final = final - torch.tril(final)
    return torch.sum(final) / (filt_num * (filt_num - 1) / 2.0)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@METRICS
@SPACES
@pytest.mark.parametrize("s", POWERS)
@pytest.mark.parametrize("shape", [(2, 5), (5, 8), (9, 3)])
def test_equals_the_definition(normal, shape, s, half_space, geodesic, reduction):
    w = normal(*shape)
    value = hyperspherical_energy(w, s, half_space, geodesic=geodesic, reduction=reduction)
    assert value.item() == pytest.approx(
        reference_energy(w.tolist(), s, half_space, geodesic, reduction == "mean"), rel=1e-12
    )


@METRICS
@SPACES
@pytest.mark.parametrize("s", POWERS)
@pytest.mark.parametrize("scale", [1.0, 1e-2, 1e-4])
def test_equals_the_released_formula(normal, scale, s, half_space, geodesic):
    w = normal(7, 5) * scale  # with a neuron's norm near 1e-2, the 1e-4 inside the norm matters
    value = hyperspherical_energy(w, s, half_space, geodesic=geodesic, eps=1e-4)
    assert value.item() == pytest.approx(released(w, s, half_space, geodesic).item(), rel=1e-12)


@SPACES
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("batch", [(1,), (3,), (2, 3), (2, 1, 2)])
def test_leading_dimensions_are_independent_sets(normal, batch, reduction, half_space):
    w = normal(*batch, 5, 4).requires_grad_()
    values = hyperspherical_energy(w, 1, half_space, reduction=reduction)
    assert values.shape == batch
    for index in itertools.product(*map(range, batch)):
        one = reference_energy(w[index].tolist(), 1, half_space, mean=reduction == "mean")
        assert values[index].item() == pytest.approx(one, rel=1e-12)
    (grad,) = torch.autograd.grad(values[(0,) * len(batch)], w)
    assert grad[(0,) * len(batch)].abs().min() > 0
    assert int(grad.flatten(0, -3).abs().sum((-2, -1)).count_nonzero()) == 1


@METRICS
@SPACES
@pytest.mark.parametrize("s", POWERS)
@pytest.mark.parametrize("shape", [(64, 32), (32, 64)])
def test_float32_is_accurate(normal, shape, s, half_space, geodesic):
    w = normal(*shape, dtype=torch.float32)
    results = []
    for dtype in (torch.float32, torch.float64):
        leaf = w.to(dtype).clone().requires_grad_()
        value = hyperspherical_energy(leaf, s, half_space, geodesic=geodesic)
        value.backward()
        assert value.dtype == dtype
        results.append((value.detach().double(), leaf.grad.double()))
    (value, grad), (exact, exact_grad) = results
    torch.testing.assert_close(value, exact, rtol=1e-5, atol=0)
    assert (grad - exact_grad).norm() < 1e-5 * exact_grad.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(12, 20), (20, 12)])
def test_half_precision_is_computed_in_float32(normal, shape, dtype):
    w = normal(*shape, dtype=dtype).requires_grad_()
    value = hyperspherical_energy(w, half_space=True)
    value.backward()
    wide = w.detach().float().requires_grad_()
    expected = hyperspherical_energy(wide, half_space=True)
    expected.backward()
    assert value.dtype == torch.float32
    assert value.item() == expected.item()
    assert w.grad.equal(wide.grad.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(12, 20), (20, 12)])
def test_autocast_changes_nothing(normal, shape, dtype):
    w = normal(*shape, dtype=dtype).requires_grad_()
    outside = hyperspherical_energy(w, half_space=True)
    (expected,) = torch.autograd.grad(outside, w)
    with torch.autocast("cpu", torch.bfloat16):
        inside = hyperspherical_energy(w, half_space=True)
        assert inside.dtype == torch.float32
    (grad,) = torch.autograd.grad(inside, w)
    assert inside.item() == outside.item()
    assert grad.equal(expected)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.ones(3, 2, dtype=torch.long),), TypeError, "int64"),
        (([[1.0, 2.0]],), TypeError, "list"),
        ((torch.ones(3),), ValueError, r"\[3\]"),
        ((torch.ones(1, 3),), ValueError, r"N >= 2.*\[1, 3\]"),
        ((torch.ones(3, 0),), ValueError, r"\[3, 0\]"),
        ((torch.ones(3, 2), -1), ValueError, "s must be .* not -1"),
        ((torch.ones(3, 2), math.nan), ValueError, "s must be"),
        ((torch.ones(3, 2), math.inf), ValueError, "s must be"),
    ],
)
def test_wrong_neurons_are_one_clear_line(arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        hyperspherical_energy(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option", [{"reduction": "none"}, {"eps": -1e-4}, {"eps": math.nan}])
def test_wrong_options_are_refused(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        hyperspherical_energy(torch.eye(3), **option)

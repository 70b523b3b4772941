"""Projections drawn in the span of the neurons: the same distribution of energies, the conditional mean gradient."""

import pytest
import torch
from torch import nn

from comhe.regularizers import create_regularizer


def sample(w, span, count=50, calls=40, **options):
    """Energies of single projections [calls * count], and gradients a mean over each call [calls, N, d]."""
    model = nn.Sequential(nn.Linear(w.shape[1], w.shape[0], bias=False)).to(w.dtype)
    model[0].weight.data = w.clone()
    regularizer = create_regularizer("rp-comhe", model, output=None, dim=8, count=count, span=span, **options)
    energies, gradients = [], []
    for _ in range(calls):
        energies.append(regularizer.penalty.energies(model[0].weight, regularizer.layers[0], regularizer.draw()))
        gradients.append(torch.autograd.grad(regularizer(), model[0].weight)[0])
    return torch.cat(energies).detach().double(), torch.stack(gradients).double()


def mean_and_error(x):
    return x.mean(0), x.std(0) / len(x) ** 0.5


@pytest.mark.parametrize("s", [0, 2])
def test_distribution_and_mean_gradient(normal, s):
    w = normal(5, 20, dtype=torch.float32) * torch.logspace(-1, 1, 5)[:, None]  # of unequal norms
    (ambient, slopes), (inside, conditional) = sample(w, False, s=s), sample(w, True, s=s)

    (mean, error), (other, other_error) = mean_and_error(ambient), mean_and_error(inside)
    assert abs(mean - other) < 4 * (error**2 + other_error**2) ** 0.5
    spread, other_spread = (ambient - mean).square(), (inside - other).square()
    (variance, error), (other, other_error) = mean_and_error(spread), mean_and_error(other_spread)
    assert abs(variance - other) < 4 * (error**2 + other_error**2) ** 0.5

    (mean, error), (other, other_error) = mean_and_error(slopes), mean_and_error(conditional)
    z = (mean - other) / (error**2 + other_error**2).sqrt()
    assert z.abs().max() < 5
    assert z.square().mean() < 1.5
    assert (mean / error).square().mean() > 4  # there is a gradient to agree on
    # what an ordinary draw adds is noise orthogonal to all neurons
    basis = torch.linalg.qr(w.double().mT)[0]
    torch.testing.assert_close(conditional @ basis @ basis.mT, conditional, rtol=1e-4, atol=1e-5)
    assert (conditional / error.mean()).var(0).sum() < (slopes / error.mean()).var(0).sum()


def test_one_draw_is_one_draw_of_an_ambient_projection(normal, plain):
    """With P Q = Z given, energy and gradient are those of the ambient P = Z Q^T, entry for entry."""
    w = normal(5, 20)
    model = nn.Sequential(nn.Linear(20, 5, bias=False)).double()
    model[0].weight.data = w.clone()
    regularizer = create_regularizer("rp-comhe", model, output=None, dim=8, count=3, span=True)
    z = regularizer.penalty.projections(regularizer.layers[0], regularizer.draw()).double()
    u = torch.nn.functional.normalize(w, dim=-1)
    basis = torch.linalg.solve_triangular(torch.linalg.cholesky(u @ u.mT), u, upper=False)  # Q^T, orthonormal rows
    torch.testing.assert_close(basis @ basis.mT, torch.eye(5).double())
    leaf = w.clone().requires_grad_()
    expected = torch.stack([plain(leaf @ (one @ basis).mT, 2, True) for one in z]).mean()
    expected.backward()
    value = regularizer()
    value.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-10)
    torch.testing.assert_close(model[0].weight.grad, leaf.grad, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("s", [0, 1, 2])
def test_duplicated_opposite_and_zero_rows(normal, dtype, s):
    w = normal(6, 20, dtype=dtype)
    w[1] = w[0]
    w[2] = -w[0]
    w[3] = 0
    energies, gradients = sample(w, True, calls=5, s=s)
    assert energies.isfinite().all()
    assert gradients.isfinite().all()
    assert gradients[:, 3].count_nonzero() == 0
    assert gradients[:, 4:].abs().amin(dim=(1, 2)).min() > 0  # the others still move


def test_zero_neuron_stays_orthogonal_to_all_others(normal):
    w = normal(3, 20)
    w[0] = 0
    (mean, error), (other, other_error) = (mean_and_error(sample(w, span, s=0)[0]) for span in (False, True))
    assert abs(mean - other) < 4 * (error**2 + other_error**2) ** 0.5


def test_as_many_neurons_as_dimensions_fall_back_to_ambient_draws(normal):
    w = normal(20, 12)
    assert sample(w, True, calls=3)[0].equal(sample(w, False, calls=3)[0])


def test_groups_and_half_precision():
    model = nn.Sequential(nn.Conv2d(16, 6, 3, groups=2), nn.Linear(4, 2)).bfloat16()
    value = create_regularizer("rp-comhe", model, dim=10, count=2, span=True)()
    value.backward()
    assert value.dtype == torch.float32
    assert model[0].weight.grad.isfinite().all()
    assert model[0].weight.grad.count_nonzero() > 0


def test_layers_take_columns_of_one_draw():
    model = nn.Sequential(nn.Linear(20, 6), nn.Linear(30, 9), nn.Linear(40, 6), nn.Linear(4, 2))
    regularizer = create_regularizer("rp-comhe", model, dim=8, count=3, span=True)
    step = regularizer.draw()
    draws = [regularizer.penalty.projections(layer, step) for layer in regularizer.layers[:3]]
    assert [list(draw.shape) for draw in draws] == [[3, 8, 6], [3, 8, 9], [3, 8, 6]]
    assert draws[0].equal(draws[1][..., :6])
    assert draws[0].equal(draws[2])
    together = regularizer()
    alone = create_regularizer("rp-comhe", model, dim=8, count=3, span=True)
    assert together.item() == pytest.approx(sum(float(row.weight * row.penalty) for row in alone.report().layers))
    apart = create_regularizer("rp-comhe", model, dim=8, count=3, span=True, shared=False)
    step = apart.draw()
    first, _, last = (apart.penalty.projections(layer, step) for layer in apart.layers[:3])
    assert not first.equal(last)

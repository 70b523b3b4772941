"""How far projected neurons' cosines and angles are from the neurons' own: three ways to the same number."""

import pytest
import torch
from torch.autograd import gradcheck
from torch.func import grad, jacrev, jvp, vmap
from torch.nn.functional import normalize

from comhe.errors import UsageError
from comhe.regularizers.energies import matching
from comhe.regularizers.energies.matching import match_angles, match_cosines, match_matrix, unit_rows
from comhe.regularizers.energies.potential import Potential
from comhe.regularizers.energies.terms import Terms

WAYS = pytest.mark.parametrize("way", [match_cosines, match_angles])
SHAPES = pytest.mark.parametrize("shape", [(7, 3, 5), (5, 3, 9), (2, 5, 3, 4)])


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(matching, "SIDE", 3)
    monkeypatch.setattr(matching, "ROWS", 2)


def directions(normal, shape):
    *sets, n, k, d = shape
    return normalize(normal(*sets, n, k), dim=-1), normalize(normal(*sets, n, d, seed=1), dim=-1)


@WAYS
@SHAPES
def test_a_sum_over_ordered_pairs_and_its_derivative(normal, way, shape):
    u, x = directions(normal, shape)

    def total(u):
        c, t = u @ u.mT, x @ x.mT
        if way is match_angles:
            eye = torch.eye(c.shape[-1])
            c, t = ((y * (1 - eye)).acos() for y in (c, t))
        else:
            c, t = (y - y.diagonal(dim1=-2, dim2=-1).diag_embed() for y in (c, t))
        return (c - t).square().sum((-2, -1))

    pull, value = way(u, x)
    torch.testing.assert_close(value, total(u))
    torch.testing.assert_close(pull, grad(lambda u: total(u).sum() / 2)(u))
    whole = match_matrix(u, x @ x.mT, way is match_angles)
    torch.testing.assert_close((pull, value), whole)


@WAYS
@SHAPES
def test_derivatives_of_both_in_both(normal, way, shape):
    u, x = directions(normal, shape)
    assert gradcheck(way, (u.requires_grad_(), x.requires_grad_()), check_forward_ad=True)


@WAYS
def test_transforms(normal, way):
    u, x = directions(normal, (2, 7, 3, 4))

    def value(u, x):
        pull, total = way(u, x)
        return pull.square().sum() + total.sum()

    leaves = u.clone().requires_grad_(), x.clone().requires_grad_()
    expected = torch.autograd.grad(value(*leaves), leaves)
    torch.testing.assert_close(vmap(grad(value, (0, 1)))(u, x), expected)
    torch.testing.assert_close(jacrev(value, (0, 1))(u, x), expected)
    change = jvp(value, (u, x), (u + 1, x + 1))[1]
    torch.testing.assert_close(change, sum((g * (y + 1)).sum() for g, y in zip(expected, (u, x), strict=True)))


def test_blocks_of_angles_say_that_they_have_one_derivative(normal):
    u, x = directions(normal, (7, 3, 5))
    u.requires_grad_()
    (first,) = torch.autograd.grad(match_angles(u, x)[0].square().sum(), u, create_graph=True)
    with pytest.raises(UsageError, match=r"differentiated again; layers of up to 1,024 neurons"):
        first.sum().backward()


@pytest.mark.parametrize("options", [{}, {"min_norm": 1.5}, {"eps": 0.5}])
def test_unit_rows(normal, options):
    w, scale = normal(2, 5, 3), normal(2, 5, 1, seed=1).abs()
    lengths = ((w * scale).square().sum(-1, keepdim=True) + options.get("eps", 0.0)).sqrt()
    terms = Terms(Potential(), **options)
    torch.testing.assert_close(unit_rows(w, scale, terms), w * scale / lengths.clamp_min(options.get("min_norm", 0.0)))
    assert gradcheck(lambda w: unit_rows(w, scale, terms), w.requires_grad_(), check_forward_ad=True)


def test_matching_cosines_is_right_where_nearly_all_cancels(normal):
    x = normalize(normal(40, 6), dim=-1)
    u = normalize(x @ (torch.eye(6) + 1e-3 * normal(6, 6, seed=1)), dim=-1)
    (pull, value), (wanted, expected) = match_cosines(u.float(), x.float()), match_cosines(u, x)
    torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(pull.double(), wanted, rtol=0, atol=1e-4 * u.norm().item())

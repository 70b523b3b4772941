"""The energy under torch.func and forward-mode differentiation."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacrev, jvp, vmap

from comhe.errors import UsageError
from comhe.regularizers import hyperspherical_energy

OPTIONS = pytest.mark.parametrize(
    "options", [{}, {"half_space": True, "min_norm": 1.5}, {"half_space": True, "eps": 0.1}, {"geodesic": True}]
)


@OPTIONS
@pytest.mark.parametrize("shape", [(4, 6), (6, 4)])
@pytest.mark.parametrize("gap", [1.0, 1e-3])
def test_transforms_are_the_ordinary_derivatives(normal, options, shape, gap):
    w, t = normal(3, *shape), normal(*shape, seed=5)
    w[:, 1] = w[:, 0] + gap * w[:, 1]

    def energy(w):
        return hyperspherical_energy(w, **options)

    leaf = w.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(energy(leaf).sum(), leaf)
    second = torch.autograd.functional.hessian(energy, w[0])
    close = {"rtol": 1e-8, "atol": 1e-9 * second.abs().max().item()}
    torch.testing.assert_close(vmap(energy)(w), energy(w))
    torch.testing.assert_close(vmap(energy, in_dims=1)(w.movedim(0, 1)), energy(w))
    torch.testing.assert_close(vmap(grad(energy))(w), gradient, **close)
    value, change = jvp(energy, (w[0],), (t,))
    torch.testing.assert_close(value, energy(w[0]))
    torch.testing.assert_close(change, (gradient[0] * t).sum(), **close)
    with forward_ad.dual_level():
        forward = forward_ad.unpack_dual(energy(forward_ad.make_dual(w[0], t))).tangent
    torch.testing.assert_close(forward, change, **close)
    for found in (hessian(energy)(w[0]), jacrev(grad(energy))(w[0]), vmap(hessian(energy))(w)[0]):
        torch.testing.assert_close(found, second, **close)


def test_there_are_no_third_derivatives(normal):
    w = normal(4, 6).requires_grad_()
    (first,) = torch.autograd.grad(hyperspherical_energy(w), w, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), w, create_graph=True)
    with pytest.raises(UsageError, match="twice"):
        torch.autograd.grad(second.sum(), w)
    with pytest.raises(UsageError, match="twice"):
        jvp(hessian(hyperspherical_energy), (w.detach(),), (w.detach(),))

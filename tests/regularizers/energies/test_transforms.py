"""What torch.func's transforms must not reach."""

import pytest
import torch
from torch.func import grad, jacrev, jvp, vmap

from comhe.errors import UsageError
from comhe.regularizers.energies.transforms import is_batched, is_transformed, last_derivative, untransformed, unwrapped


def test_what_a_transform_looks_at():
    w, seen = torch.ones(2, 3), []

    def look(w):
        seen.append((is_transformed(w), is_batched(w), unwrapped(w)))
        return w.sum()

    look(w.requires_grad_())
    w = w.detach()
    grad(look)(w)
    vmap(look)(w)
    vmap(grad(look))(w)
    jvp(lambda w: vmap(look)(w).sum(), (w,), (w,))
    assert [(a, b) for a, b, _ in seen] == [(False, False), (True, False), (True, True), (True, True), (True, True)]
    assert [x is None for *_, x in seen] == [False, False, True, True, True]
    assert not any(is_transformed(x) or x.requires_grad for *_, x in seen[:2])


def test_draws_within_vmap_are_the_same_for_all():
    def draw(w):
        with untransformed():
            noise = torch.randn(3, generator=torch.Generator().manual_seed(0))
        return w + noise

    found = vmap(draw)(torch.zeros(2, 3))
    assert found[0].equal(found[1])
    with pytest.raises(RuntimeError, match="random"):  # transforms are back after it
        vmap(lambda w: draw(w) + torch.randn(3))(torch.zeros(2, 3))


def test_a_last_derivative():
    w = torch.ones(2)

    def doubled(w):
        return last_derivative(2 * w.detach(), w, instead="take squares").sum()

    assert vmap(doubled)(torch.ones(3, 2)).tolist() == [4.0, 4.0, 4.0]
    for derivative in (grad(doubled), jacrev(doubled), lambda w: jvp(doubled, (w,), (w,)), vmap(grad(doubled))):
        with pytest.raises(UsageError, match="cannot be differentiated again; take squares"):
            derivative(w if w.dim() > 1 else w.expand(3, 2).clone())

"""Operations whose forward keeps its signature."""

import inspect

import pytest
import torch

from comhe.autograd import Operation


class Scaled(Operation):
    @staticmethod
    def forward(x: torch.Tensor, factor: float = 3.0) -> torch.Tensor:
        return factor * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx, grad):
        return ctx.factor * grad, None


class Negated(Scaled):
    @staticmethod
    def forward(x: torch.Tensor, factor: float = -1.0, *more: int) -> torch.Tensor:
        return Scaled.forward(x, factor)


@pytest.mark.parametrize(("operation", "factor"), [(Scaled, 3.0), (Negated, -1.0)])
def test_defaults_are_filled_in_and_gradients_pass(operation, factor):
    x = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert operation.apply(x).equal(factor * x)
    assert torch.autograd.gradcheck(operation.apply, x)
    (grad,) = torch.autograd.grad(operation.apply(x, 5.0).sum(), x)
    assert grad.equal(torch.full_like(x, 5))


def test_the_signature_is_kept_and_ones_own():
    assert inspect.signature(Scaled.forward) is inspect.signature(Scaled.forward)
    assert [*inspect.signature(Scaled.forward).parameters] == ["x", "factor"]
    assert [*inspect.signature(Negated.forward).parameters] == ["x", "factor", "more"]

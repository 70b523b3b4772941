"""The fused training operation: memory, ties, NaN, and transforms of functions."""

import pytest
import torch
from torch.func import functional_call

from comhe.zoo.points import SharedMLP, chain

from .test_shared_mlp import build, inputs


def test_func_grad_is_autograd():
    mlp = build([3, 6, 5])
    (x,) = inputs(mlp)
    parameters, buffers = dict(mlp.named_parameters()), dict(mlp.named_buffers())

    def loss(parameters):
        moving = {name: buffer.clone() for name, buffer in buffers.items()}
        return functional_call(mlp, (parameters, moving), (x,)).square().sum()

    got = torch.func.grad(loss)(parameters)
    expected = torch.autograd.grad(loss(parameters), list(parameters.values()))
    for x, y in zip(got.values(), expected, strict=True):
        torch.testing.assert_close(x, y)


def test_ties_go_to_the_first_row():
    """Products without rounding, so that equal rows have equal outputs in whichever order these are summed."""
    mlp = build([3, 6, 5])
    with torch.no_grad():
        mlp.linears[0].weight.mul_(8).round_()
        mlp.linears[1].weight.copy_(2 * torch.eye(5, 6))
    x = torch.randint(-8, 8, (2, 1, 3), dtype=torch.float64).expand(2, 4, 3).clone().requires_grad_()  # every row wins
    v = torch.tensor([1.0, -1.0], dtype=torch.float64)[:, None]  # sums to zero: all that batch norm adds is linear
    out = mlp(x)
    (gradient,) = torch.autograd.grad(out, x, v.expand_as(out))
    torch.testing.assert_close(gradient[:, 1], gradient[:, 2])
    torch.testing.assert_close(gradient[:, 1], gradient[:, 3])
    assert not torch.allclose(gradient[:, 0], gradient[:, 1])


def test_the_last_layers_activations_never_exist(largest, monkeypatch):
    monkeypatch.setattr(chain, "BLOCK", 2048)
    mlp, x = SharedMLP([3, 8, 8, 64]), torch.randn(40, 16, 3)
    with largest:
        mlp(x).sum().backward()
    assert largest.numbers == 40 * 16 * 8  # of 40 * 16 * 64


def test_no_second_derivative():
    mlp = build([3, 6, 5])
    (x,) = inputs(mlp)
    (gradient,) = torch.autograd.grad(mlp(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


def test_not_a_number_is_passed_on():
    mlp = build([3, 6, 5], dtype=torch.float32)
    x = torch.randn(6, 4, 3)
    x[1, 1, 1] = torch.nan
    out = mlp(x)
    out.sum().backward()
    assert out.isnan().any()

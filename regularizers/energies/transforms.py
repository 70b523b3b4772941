"""torch.func's transforms, as seen by what they must not reach: draws, learned state, derivatives that do not exist."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from comhe.autograd import Operation
from comhe.errors import UsageError

_functorch = torch._C._functorch


@contextmanager
def untransformed() -> Iterator[None]:
    """A context in which tensors made outside of all transforms are computed with as if there were none.

    Example:
        >>> def draw(w):
        ...     with untransformed():  # vmap allows no random operation
        ...         noise = torch.empty(3).uniform_()
        ...     return w + noise
        >>> torch.vmap(draw)(torch.zeros(2, 3)).shape
        torch.Size([2, 3])
    """
    guard = torch._C._DisableFuncTorch()
    try:
        yield
    finally:
        del guard


def is_transformed(w: Tensor) -> bool:
    """Whether a transform is looking at the tensor.

    Example:
        >>> is_transformed(torch.eye(2)), torch.func.grad(lambda w: w.sum() * is_transformed(w))(torch.ones(2))
        (False, tensor([1., 1.]))
    """
    return _functorch.is_functorch_wrapped_tensor(w)


def is_batched(w: Tensor) -> bool:
    """Whether the tensor stands for a batch of tensors, so that no number of it can decide anything."""
    while _functorch.is_functorch_wrapped_tensor(w):
        if _functorch.is_batchedtensor(w):
            return True
        w = _functorch.get_unwrapped(w)
    return False


def unwrapped(w: Tensor) -> Tensor | None:
    """The tensor itself, without graph or transform; None if it is a batch of them."""
    if is_batched(w):
        return None
    while _functorch.is_functorch_wrapped_tensor(w):
        w = _functorch.get_unwrapped(w)
    with untransformed():
        return w.detach()


def last_derivative(x: Tensor, *of: Tensor, instead: str) -> Tensor:
    """``x``, a derivative with respect to ``of``; to differentiate it once more is a UsageError that says ``instead``.

    Example:
        >>> w = torch.ones(2, requires_grad=True)
        >>> last_derivative(2 * w.detach(), w, instead="use squares").sum().backward()
        Traceback (most recent call last):
        comhe.errors.UsageError: this derivative cannot be differentiated again; use squares
    """
    return _Last.apply(x, instead, *of)


class _Last(Operation):
    @staticmethod
    def forward(x: Tensor, instead: str, *of: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.instead = inputs[1]

    @staticmethod
    def backward(ctx, grad: Tensor):
        raise UsageError(f"this derivative cannot be differentiated again; {ctx.instead}")

    @staticmethod
    def jvp(ctx, *_: Any):
        raise UsageError(f"this derivative cannot be differentiated again; {ctx.instead}")

    @staticmethod
    def vmap(info, in_dims, x: Tensor, instead: str, *of: Tensor):
        return _Last.apply(x, instead, *of), in_dims[0]

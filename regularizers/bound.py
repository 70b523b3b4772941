"""A bound on what one step does to short neurons."""

from typing import Any

import torch
from torch import Tensor

from .energies.sums import can_branch

RATE = 10.0  # the largest gradient of a neuron in a set with a short one, in units of its length
SHORT = 0.5  # a neuron is short if it has less than this times the root mean square length of its set ...
FEW = 10.0  # ... or than this times min_norm


def bound_gradient(w: Tensor, min_norm: float, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    r"""The same neurons, whose gradient will be bounded if any is short, and zeros to add to the penalty of them.

    With P the penalty of a set of neurons, which is about ``scale`` times as large as a mean over pairs,

    .. math::
        |\partial P / \partial w_i| \le \frac{10\, \mathrm{scale}\, \max(|w_i|, \mathrm{min\_norm})}
        {(1 - \min_j |w_j|^2 / h^2)_+}, \qquad
        h = \max\left(10\,\mathrm{min\_norm}, \tfrac12 \sqrt{\operatorname{mean}_j |w_j|^2}\right)

    so a step of SGD with learning rate 0.1 at weight 1 / ``scale`` moves no neuron by more than its length where one
    is much shorter than h. Where none is, all have the gradient that P has, whatever that is. Without the
    bound, rows that start at zero grow in nearly the same direction, and the true gradient of such a pair throws them;
    through a learned projection, it throws the others as well.

    The zeros have a gradient that tells the backward pass the factor of P in the loss, such as a gradient scaler's.

    Shape: ``[..., N, d] -> [..., N, d], [...]``.

    Example:
        >>> w = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], requires_grad=True)
        >>> rows, zeros = bound_gradient(w, min_norm=0.01)
        >>> (1e6 * rows.sum() + zeros).backward()
        >>> w.grad.norm(dim=-1)
        tensor([10.0000, 10.0000,  0.1000])
    """
    function = _Bound if torch.compiler.is_compiling() else _TransformedBound
    rows, zeros, _ = function.apply(w, min_norm, RATE * scale)
    return rows, zeros


class _Bound(torch.autograd.Function):
    @staticmethod
    def forward(w: Tensor, min_norm: float, rate: float) -> tuple[Tensor, Tensor, Tensor | None]:
        squared = torch.linalg.vecdot(w, w)
        long = (SHORT**2 * squared.mean(-1, keepdim=True)).clamp_min((FEW * min_norm) ** 2)
        lack = (1 - squared.amin(-1, keepdim=True) / long).clamp_min(0)
        most: Tensor | None = None
        if not can_branch(w) or bool(lack.any()):
            most = rate * squared.sqrt().clamp_min(min_norm) / lack
        return w.view_as(w), w.new_zeros(w.shape[:-2]), most

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        if output[2] is not None:
            ctx.mark_non_differentiable(output[2])
            ctx.save_for_backward(output[2])

    @staticmethod
    def backward(ctx, grad: Tensor, factor: Tensor, *_: Any) -> tuple[Tensor, None, None]:
        for most in ctx.saved_tensors:
            most = most * factor.abs()[..., None]
            size = torch.linalg.vector_norm(grad, dim=-1)
            grad = grad * torch.where(size > most, most / size, 1.0)[..., None]
        return grad, None, None


class _TransformedBound(_Bound):
    """The same for the transforms of torch.func. A derivative in forward mode is not bounded."""

    @staticmethod
    def jvp(ctx, change: Tensor, *_: Any) -> tuple[Tensor, Tensor, None]:
        return change.view_as(change), change.new_zeros(change.shape[:-2]), None

    @staticmethod
    def vmap(info, in_dims, w: Tensor, min_norm: float, rate: float):
        found = _TransformedBound.apply(w.movedim(in_dims[0], 0), min_norm, rate)
        return found, (0, 0, None if found[2] is None else 0)

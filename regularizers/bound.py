"""A bound on what one step does to short neurons."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from comhe.autograd import Operation

from .energies.checks import as_sets
from .energies.kernels import OFFSETS, runs_on
from .energies.sums import can_branch
from .energies.transforms import is_transformed

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


def bounds_together(neurons: Sequence[Tensor], device: torch.device) -> bool:
    """Whether :func:`bound_gradients` takes these layers: float32 on this GPU that runs the kernels, no transform."""
    return not torch.compiler.is_compiling() and all(
        runs_on(device)
        and w.device == device
        and w.dtype == torch.float32
        and w.numel() > 0
        and w.shape[-2:].numel() < OFFSETS
        and not is_transformed(w)
        for w in neurons
    )


def bound_gradients(
    neurons: Sequence[Tensor], weights: Tensor, min_norm: float, scales: Sequence[float]
) -> tuple[list[Tensor], Tensor]:
    """:func:`bound_gradient` of several layers at once, with one zero to add to the weighted sum of their penalties.

    A layer's penalty is the mean over its sets. The gradients of a gradient are those of :func:`bound_gradient`.

    Shape: layers ``[..., N, d]``, ``[layers] -> [..., N, d]``, ``[]``.
    """
    zero, _, *rows = _Bounds.apply(weights, min_norm, [RATE * scale for scale in scales], *neurons)
    return rows, zero


class _Bound(Operation):
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
            grad = _shortened(grad, most, factor.abs()[..., None])
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


class _Bounds(Operation):
    """Many layers on a GPU. The kernels are imported where they run."""

    @staticmethod
    def forward(weights: Tensor, min_norm: float, rates: list[float], *neurons: Tensor) -> tuple[Tensor, ...]:
        from .energies.kernels.bound import gradient_limits

        limits = gradient_limits([as_sets(w) for w in neurons], rates, min_norm, SHORT**2, (FEW * min_norm) ** 2)
        return weights.new_zeros(()), limits, *(w.view_as(w) for w in neurons)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        weights, _, _, *neurons = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(weights, output[1])
        ctx.save_for_forward(weights)
        ctx.sets = tuple(w.shape[:-2].numel() for w in neurons)

    @staticmethod
    def backward(ctx, factor: Tensor, _, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from .energies.kernels.bound import bounded, device_numbers

        weights, limits = ctx.saved_tensors
        factors = factor * weights / device_numbers(ctx.sets, weights.device)
        if torch.is_grad_enabled():
            ends = [grad.shape[:-1].numel() for grad in grads]
            parts = zip(grads, limits.split(ends), factors.abs().unbind(), strict=True)
            found = [_shortened(grad, most.view(grad.shape[:-1]), size) for grad, most, size in parts]
        else:
            found = bounded([as_sets(grad) for grad in grads], limits, factors)
            found = [one.view_as(grad) for one, grad in zip(found, grads, strict=True)]
        return None, None, None, *found

    @staticmethod
    def jvp(ctx, _weights, _min_norm, _rates, *changes: Tensor | None) -> tuple[Tensor | None, ...]:
        (weights,) = ctx.saved_tensors
        return weights.new_zeros(()), None, *(x if x is None else x.view_as(x) for x in changes)


def _shortened(grad: Tensor, most: Tensor, factor: Tensor) -> Tensor:
    """Rows no longer than most times factor, differentiable even where most is infinite."""
    size = torch.linalg.vector_norm(grad, dim=-1)
    is_long = size > most * factor
    limit = torch.where(is_long, most, 1.0) * factor
    return grad * torch.where(is_long, limit / torch.where(is_long, size, 1.0), 1.0)[..., None]

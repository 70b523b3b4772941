"""Batch norm whose batch is spread over several processes."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm


class GlobalBatchNorm(_BatchNorm):
    r"""Batch norm that in training takes its statistics over the samples of all processes of the default group.

    With n_r of the N samples on rank r, and the gradient g of the outputs on its own samples,

    .. math:: \mu = \frac{1}{N} \sum_r n_r \mu_r, \qquad
              \sigma^2 = \frac{1}{N} \sum_r n_r (\sigma_r^2 + \mu_r^2) - \mu^2, \qquad
              dx = \frac{\gamma}{\sigma} \Big( g - \frac{1}{N} \sum g - \frac{\hat x}{N} \sum g \hat x \Big)

    the last two sums over all ranks, while the gradients of gamma and beta are the rank's own, to be summed or averaged
    like all others. Two small all-reduces a step, in float64, whatever the number of samples; they need not be equally
    many on every rank. Unlike torch's SyncBatchNorm it runs on every device.

    Shapes: [n, C] or [n, C, ...] -> the same.
    """

    def _check_input_dim(self, x: Tensor) -> None:
        pass  # any will do

    @torch.compiler.disable
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        out, mean, variance, count = _Normalised.apply(x, self.weight, self.bias, self.eps)
        update_running(self, mean, variance, count)
        return out


def synchronise(model: nn.Module) -> None:
    """Make every batch norm of a model a :class:`GlobalBatchNorm`; modules, parameters and names stay the same."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.__class__ = GlobalBatchNorm


def update_running(norm: _BatchNorm, mean: Tensor, variance: Tensor, count: int | Tensor) -> None:
    """What ``norm`` itself would do to its running statistics after a batch of ``count`` rows in training."""
    if norm.running_mean is None or norm.running_var is None:
        return
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        momentum = norm.momentum
        if momentum is None:  # the mean of all batches; as a tensor, because a number would have to wait for the device
            momentum = norm.num_batches_tracked.to(norm.running_mean.dtype).reciprocal()
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
        norm.running_var.lerp_((variance * (count / (count - 1))).to(norm.running_var.dtype), momentum)


class _Normalised(torch.autograd.Function):
    """Output, mean and biased variance [C] of all samples, and their number."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, ...]:
        channels, wide = x.shape[1], _wide(x)
        variance, mean = torch.var_mean(wide, _others(x), correction=0)
        mean, variance = mean.double(), variance.double()
        rows = x.numel() // channels
        sums = torch.cat((rows * mean, rows * (variance + mean * mean), mean.new_full((1,), rows)))
        distributed.all_reduce(sums)
        count = sums[-1]
        mean, square = (sums[:-1] / count).split(channels)
        variance = (square - mean * mean).clamp_min_(0)
        mean, variance = mean.to(wide.dtype), variance.to(wide.dtype)
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps), mean, variance, count

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        x, weight, _, ctx.eps = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, *output[1:])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor, *_) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, count = ctx.saved_tensors
        shape = (-1, *[1] * (x.dim() - 2))
        inverse = (variance + ctx.eps).rsqrt()
        g = _wide(gradient)
        normal = (_wide(x) - mean.view(shape)) * inverse.view(shape)
        own = torch.cat((g.sum(_others(x)), (g * normal).sum(_others(x))))
        dbeta, dgamma = own.split(len(mean))
        sums = own.double()
        distributed.all_reduce(sums)
        shift, slope = (sums / count).to(g.dtype).split(len(mean))
        scale = inverse if weight is None else inverse * weight
        dx = (g - shift.view(shape) - normal * slope.view(shape)) * scale.view(shape)
        return dx.to(x.dtype), None if weight is None else dgamma, None if weight is None else dbeta, None


def _others(x: Tensor) -> tuple[int, ...]:
    """All dimensions but that of the channels."""
    return (0, *range(2, x.dim()))


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))

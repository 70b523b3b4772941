"""Batch norm over a batch that several processes share."""

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from comhe.autograd import Operation

from .eager import eager


class GlobalBatchNorm(_BatchNorm):
    r"""Batch norm that in training takes its statistics over the samples of all processes of the default group.

    With n_r of the N samples on rank r, and the gradient g of the outputs at its samples,

    .. math:: \mu = \frac{1}{N} \sum_r n_r \mu_r, \qquad
              \sigma^2 = \frac{1}{N} \sum_r n_r (\sigma_r^2 + \mu_r^2) - \mu^2, \qquad
              dx = \frac{\gamma}{\sigma} \Big( g - \frac{1}{N} \sum g - \frac{\hat x}{N} \sum g \hat x \Big)

    The last two sums are over all ranks, while the gradients of gamma and beta are those of one rank, to be summed or
    averaged like all others. A step takes two small all-reduces in float64, whatever the number of samples, which may
    differ between ranks. Unlike torch's SyncBatchNorm it runs on every device.

    Shape: [n, C] or [n, C, ...] -> the same.
    """

    def _check_input_dim(self, x: Tensor) -> None:
        pass  # any number of dimensions is fine

    @eager
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        out, mean, variance, count = _Normalized.apply(x, self.weight, self.bias, self.eps)
        update_running(self, mean, variance, count)
        return out


def convert_global_batch_norm(model: nn.Module) -> nn.Module:
    """Replace every batch norm of a model by a :class:`GlobalBatchNorm` with the same parameters and buffers.

    Names and state dict stay the same. As with ``nn.SyncBatchNorm.convert_sync_batchnorm``, references to the replaced
    modules are stale afterwards, and a model that is a batch norm itself is replaced by the returned one.
    """
    if isinstance(model, _BatchNorm):
        return _convert(model)
    for module in list(model.modules()):
        for name, child in module._modules.items():
            if isinstance(child, _BatchNorm):
                module._modules[name] = _convert(child)
    return model


def _convert(norm: _BatchNorm) -> GlobalBatchNorm:
    result = GlobalBatchNorm(norm.num_features, norm.eps, norm.momentum, False, False)
    result.affine, result.track_running_stats = norm.affine, norm.track_running_stats
    result._parameters.update(norm._parameters)
    result._buffers.update(norm._buffers)
    return result.train(norm.training)


def update_running(norm: _BatchNorm, mean: Tensor, variance: Tensor, count: int | Tensor) -> None:
    """Update the running statistics as ``norm`` itself does after a batch of ``count`` rows in training."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        momentum: Any = norm.momentum
        if momentum is None:  # the mean of all batches; as a tensor, because a number would have to wait for the device
            momentum = norm.num_batches_tracked.to(norm.running_mean.dtype).reciprocal()
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
        norm.running_var.lerp_((variance * (count / (count - 1))).to(norm.running_var.dtype), momentum)


def scale_and_shift(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Return the scale and the shift [C] with which ``norm`` in evaluation is ``scale * x + shift``."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


class _Normalized(Operation):
    """Output, mean and biased variance [C] of all samples, and their number."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, ...]:
        channels, wide = x.shape[1], _upcast(x)
        variance, mean = torch.var_mean(wide, _reduced(x), correction=0)
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
        g = _upcast(gradient)
        normal = (_upcast(x) - mean.view(shape)) * inverse.view(shape)
        local = torch.cat((g.sum(_reduced(x)), (g * normal).sum(_reduced(x))))
        dbeta, dgamma = local.split(len(mean))
        sums = local.double()
        distributed.all_reduce(sums)
        shift, slope = (sums / count).to(g.dtype).split(len(mean))
        scale = inverse if weight is None else inverse * weight
        dx = (g - shift.view(shape) - normal * slope.view(shape)) * scale.view(shape)
        return dx.to(x.dtype), None if weight is None else dgamma, None if weight is None else dbeta, None


def _reduced(x: Tensor) -> tuple[int, ...]:
    """All dimensions but that of the channels."""
    return (0, *range(2, x.dim()))


def _upcast(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))

"""The weighted energy of many layers as one operation, whose gradient is computed in the forward pass."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from comhe.autograd import Operation

from . import kernels
from .checks import Layers, as_sets, autocast_disabled
from .energy import energy_gradient
from .potential import Potential
from .tables import device_table
from .terms import Terms


def batched_energies(neurons: Layers, weights: Tensor, terms: Terms, reduction: str) -> Tensor:
    r"""The sum over layers of weight times energy, the latter a mean over the layer's sets.

    .. math:: \sum_l \lambda_l \frac{1}{B_l} \sum_b E(W_{l, b})

    Shape: layers [..., N_l, d_l] that the kernels take, weights [layers] -> a scalar, differentiable twice in the
    layers.
    """
    with_gradient = torch.is_grad_enabled() and any(w.requires_grad for w in neurons)
    return _BatchedEnergies.apply(weights, terms, reduction, with_gradient, *neurons)[0]


def weighted_energies(
    sums: Tensor, shapes: Sequence[tuple[int, int]], weights: Tensor, potential: Potential, reduction: str
) -> Tensor:
    """The same from the sums of phi over the pairs of each set, [sets of all layers]; shapes (sets, N) of layers."""
    scales, constants, layers = _scales(tuple(shapes), potential, reduction, weights.device)
    return _total(sums, layers, weights * scales, weights * constants)


def _total(sums: Tensor, layers: Tensor, factors: Tensor, constants: Tensor) -> Tensor:
    return (factors.index_select(0, layers) * sums).sum() + constants.sum()


class _BatchedEnergies(Operation):
    @staticmethod
    def forward(weights, terms, reduction, with_gradient, *neurons):
        sets = [as_sets(w) for w in neurons]
        shapes = tuple((len(w), w.shape[-2]) for w in sets)
        scales, constants, layers = _scales(shapes, terms.potential, reduction, weights.device)
        with autocast_disabled(weights):
            factors = weights * scales
            sums, gradients = kernels.energy_sums(sets, terms, factors, with_gradient=with_gradient)
            total = _total(torch.cat(sums), layers, factors, weights * constants)
        return total, *(g.view(w.shape) for g, w in zip(gradients, neurons, strict=True) if with_gradient)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        weights, ctx.terms, ctx.reduction, _, *neurons = inputs
        ctx.gradients = output[1:]  # a first derivative reads no neurons: they may have been changed since
        ctx.mark_non_differentiable(*ctx.gradients)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(weights, *neurons)
        ctx.save_for_forward(weights, *neurons)

    @staticmethod
    def backward(ctx, grad: Tensor, *_):
        if torch.is_grad_enabled():  # a second derivative is wanted
            return None, None, None, None, *(grad * slope for slope in _slopes(ctx))
        dense = [gradient.contiguous() for gradient in ctx.gradients]  # else each is multiplied alone
        return None, None, None, None, *torch._foreach_mul(dense, grad)

    @staticmethod
    def jvp(ctx, _weights, _terms, _reduction, _with_gradient, *changes: Tensor | None):
        pairs = zip(_slopes(ctx), changes, strict=True)
        total = sum((slope * change).sum() for slope, change in pairs if change is not None)
        return total, *(None for _ in ctx.gradients)


def _slopes(ctx) -> Iterator[Tensor]:
    """The gradients in one layer after the other, by operations that can be differentiated once more."""
    weights, *neurons = ctx.saved_tensors
    for w, weight in zip(neurons, weights.unbind(), strict=True):
        yield weight / w.shape[:-2].numel() * energy_gradient(w, ctx.terms, ctx.reduction)


@device_table
def _scales(
    shapes: tuple[tuple[int, int], ...], potential: Potential, reduction: str, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """For each layer, the factor of its pair sum and what antipodal pairs add; for each set, its layer.

    They stay on the device, since a captured graph may read them.
    """
    scales, constants, layers = [], [], []
    for layer, (batch, n) in enumerate(shapes):
        scale = 2.0 if reduction == "sum" else 1 / potential.pairs(n)
        scales.append(scale / batch)
        constants.append(scale * n * potential.antipodal if potential.half_space else 0.0)
        layers += [layer] * batch
    floats = [torch.tensor(values, dtype=torch.float32).to(device) for values in (scales, constants)]
    return floats[0], floats[1], torch.tensor(layers).to(device)

"""The last layer before a maximum: linear, batch norm, activation, max, without storing the layer's activations."""

from collections.abc import Callable

import torch
from torch import Tensor

from .moments import Moments
from .operations import segment_order, segment_sum

Hidden = Callable[[slice], Tensor]


def first_maxima(y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maxima of y [G, K, C] over K, and the positions of the first of equal ones. Overwrites y.

    The largest rank among the equals of the maximum is several times faster than a maximum with indices.
    """
    size = y.shape[1]
    rank = torch.arange(size, 0, -1, dtype=y.dtype, device=y.device)[:, None]
    top = y.amax(1)
    first = y.eq_(top[:, None]).mul_(rank).amax(1)
    return top, (size - first).clamp_(max=size - 1)  # a NaN equals nothing


def max_layer(
    hidden: Hidden, blocks: list[slice], group: int, weight: Tensor, gamma: Tensor, beta: Tensor, eps: float
) -> tuple[Tensor, ...]:
    r"""Compute the maximum over each group of rows of BN(h W^T), before its activation.

    BN is increasing where gamma > 0 and decreasing where gamma < 0, so the maximum is found on h W^T sign(gamma); where
    gamma = 0 all rows are equal and the first wins, as in every tie. The statistics of h W^T follow from those of h:

    .. math:: \mu = W \bar h, \qquad \sigma^2 = \mathrm{diag}(W \, \mathrm{Cov}(h) \, W^\top)

    ``hidden`` returns the rows h of a block, [n, K], in a buffer that it reuses. Returned are z [G, C]; mean [C] and
    biased variance [C] of h W^T; for the backward the winners' positions in their groups, int32 [G, C], their
    normalized values [G, C], and mean [K] and covariance [K, K] of h.
    """
    sign = gamma.sign()
    signed = (weight * sign[:, None]).t()
    moments = Moments(cross=True)
    buffer = weight.new_empty(blocks[0].stop, len(weight))
    tops, winners = [], []
    for block in blocks:
        centered = moments.add(hidden(block))
        y = torch.mm(centered, signed, out=buffer[: len(centered)]).view(-1, group, len(weight))
        top, first = first_maxima(y)
        tops.append(top)
        winners.append(first.int())
    center, covariance = moments.result()
    wide = weight.double()
    mean = wide @ center
    variance = ((wide @ covariance) * wide).sum(1).clamp_min_(0)
    offset = wide @ (center - moments.origin)
    statistics = mean, variance, offset, center, covariance
    mean, variance, offset, center, covariance = (t.to(weight.dtype) for t in statistics)
    normal = (torch.cat(tops) * sign - offset) * (variance + eps).rsqrt()
    return normal * gamma + beta, mean, variance, torch.cat(winners), normal, center, covariance


class MaxLayerGradient:
    r"""Backward of :func:`max_layer`. With a = gamma / sigma, R rows and g the gradient of z,

    .. math:: \frac{\partial L}{\partial y_{rc}} = a_c \Big( G_{rc} - \frac{\beta'_c}{R}
              - \hat y_{rc} \frac{\gamma'_c}{R} \Big), \qquad
              \beta' = \sum g, \quad \gamma' = \sum g \hat y_\mathrm{win}

    where G is g at the winners and zero elsewhere. The other terms are linear in h: their sum over the channels is one
    K x K product, their sums over the rows are moments. With S the sum of g over the winners' rows h - mean,

    .. math:: \frac{\partial L}{\partial h} = G a W - \frac{a \beta'}{R} W
              - (h - \bar h) \, W^\top \mathrm{diag}\Big(\frac{a \gamma'}{\sigma R}\Big) W, \qquad
              \frac{\partial L}{\partial W} = a \Big( S - \frac{\gamma'}{\sigma} W \, \mathrm{Cov}(h) \Big)
    """

    def __init__(self, g, rows, group, weight, gamma, eps, variance, winner, normal, center, covariance) -> None:
        self.g, self.group, self.weight, self.winner, self.center = g, group, weight, winner, center
        self.inverse = (variance + eps).rsqrt()
        self.scale = gamma * self.inverse
        self.beta = g.sum(0)
        # Where gamma = 0, normal is not the winner's value, but the scale it is multiplied with is 0.
        slope = self.scale * self.inverse * (g * normal).sum(0) / rows
        self.square = weight.t() @ (weight * -slope[:, None])
        self.constant = (self.scale * self.beta / -rows) @ weight
        self.covariance = covariance
        self.winning = torch.zeros_like(weight)

    def rows(self, block: slice, h: Tensor, out: Tensor, buffer: Tensor) -> Tensor:
        """Compute the gradient of the block's rows h [n, K] in ``out``; ``buffer`` has the same size."""
        groups = slice(block.start // self.group, block.stop // self.group)
        winner, g = self.winner[groups], self.g[groups]
        centered = torch.sub(h, self.center, out=buffer)
        torch.addmm(self.constant, centered, self.square, out=out)
        # A GPU would add up a channel's winners in one thread, for milliseconds where there are thousands of groups.
        sparse = h.device.type == "cpu" or len(winner) <= 1024
        return (self._add_sparse if sparse else self._add_dense)(winner, g, centered, out)

    def _add_sparse(self, winner: Tensor, g: Tensor, centered: Tensor, out: Tensor) -> Tensor:
        # G has one entry a group and channel: sums of its entries by channel for W, and sorted by row for h.
        row = winner + self.group * torch.arange(len(winner), dtype=winner.dtype, device=winner.device)[:, None]
        size, channels = row.shape
        channel_offsets = torch.arange(0, channels * size, size, dtype=row.dtype, device=row.device)
        self.winning += segment_sum(centered, row.t().flatten(), channel_offsets, g.t().flatten())
        order, row_offsets = segment_order(row.flatten(), len(centered))
        return out.add_(segment_sum(self.weight, order % channels, row_offsets, (g * self.scale).flatten()[order]))

    def _add_dense(self, winner: Tensor, g: Tensor, centered: Tensor, out: Tensor) -> Tensor:
        # Two products with all of G. No two winners share an entry, so that they can be written in any order.
        entries = g.new_zeros(len(winner), self.group, len(self.weight)).scatter_(1, winner[:, None].long(), g[:, None])
        entries = entries.flatten(0, 1)
        self.winning.addmm_(entries.t(), centered)
        return out.addmm_(entries.mul_(self.scale), self.weight)

    def parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of weight, gamma and beta, once :meth:`rows` has seen all blocks."""
        gamma = (self.weight * self.winning).sum(1) * self.inverse
        linear = self.winning - (gamma * self.inverse)[:, None] * (self.weight @ self.covariance)
        return self.scale[:, None] * linear, gamma, self.beta

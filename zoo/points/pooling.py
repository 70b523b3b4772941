"""The last layer before a maximum: linear, batch norm, activation, max, without the layer's activations in memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .moments import Moments
from .operations import segment_order, segment_sum

Hidden = Callable[[slice], Tensor]


def max_layer(
    hidden: Hidden, parts: list[slice], group: int, weight: Tensor, gamma: Tensor, beta: Tensor, eps: float
) -> tuple[Tensor, ...]:
    r"""Forward: the maximum over each group of rows of BN(h W^T), before its activation.

    BN is increasing where gamma > 0 and decreasing where gamma < 0, so the maximum is found on h W^T sign(gamma); where
    gamma = 0 all rows are equal and the first wins, as in every tie. The statistics of h W^T follow from those of h:

    .. math:: \mu = W \bar h, \qquad \sigma^2 = \mathrm{diag}(W \, \mathrm{Cov}(h) \, W^\top)

    Args:
        hidden: gives the rows h of a part, [n, K], in a buffer of its own.
        parts: the rows in order, each part whole groups of ``group`` rows.

    Returns:
        z [G, C]; mean [C] and biased variance [C] of h W^T; for the backward the winners' positions in their groups,
        int32 [G, C], their normalised values [G, C], and mean [K] and covariance [K, K] of h.
    """
    sign = gamma.sign()
    signed = (weight * sign[:, None]).t()
    rank = torch.arange(group, 0, -1, dtype=weight.dtype, device=weight.device)[:, None]
    moments = Moments(cross=True)
    buffer = weight.new_empty(parts[0].stop, len(weight))
    tops, winners = [], []
    for part in parts:
        centred = moments.add(hidden(part))
        y = torch.mm(centred, signed, out=buffer[: len(centred)]).view(-1, group, len(weight))
        top = y.amax(1)
        # The largest rank among the equals of the maximum: several times faster than a maximum with indices.
        first = y.eq_(top[:, None]).mul_(rank).amax(1)
        tops.append(top)
        winners.append((group - first).clamp_(max=group - 1).int())  # a NaN equals nothing
    centre, covariance = moments.result()
    wide = weight.double()
    mean = wide @ centre
    variance = ((wide @ covariance) * wide).sum(1).clamp_min_(0)
    offset = wide @ (centre - moments.origin)
    mean, variance, offset, centre, covariance = (
        t.to(weight.dtype) for t in (mean, variance, offset, centre, covariance)
    )
    normal = (torch.cat(tops) * sign - offset) * (variance + eps).rsqrt()
    return normal * gamma + beta, mean, variance, torch.cat(winners), normal, centre, covariance


class MaxLayerGradient:
    r"""Backward of :func:`max_layer`. With a = gamma / sigma, R rows and g the gradient of z,

    .. math:: \frac{\partial L}{\partial y_{rc}} = a_c \Big( G_{rc} - \frac{\beta'_c}{R}
              - \hat y_{rc} \frac{\gamma'_c}{R} \Big), \qquad
              \beta' = \sum g, \quad \gamma' = \sum g \hat y_\mathrm{win}

    where G holds g at the winners and is zero elsewhere. The other terms are linear in h: summed over the channels they
    are one K x K product, over the rows they are moments. With S the sum of g over the winners' rows h - mean,

    .. math:: \frac{\partial L}{\partial h} = G a W - \frac{a \beta'}{R} W
              - (h - \bar h) \, W^\top \mathrm{diag}\Big(\frac{a \gamma'}{\sigma R}\Big) W, \qquad
              \frac{\partial L}{\partial W} = a \Big( S - \frac{\gamma'}{\sigma} W \, \mathrm{Cov}(h) \Big)
    """

    def __init__(self, g, rows, group, weight, gamma, eps, variance, winner, normal, centre, covariance) -> None:
        self.g, self.group, self.weight, self.winner, self.centre = g, group, weight, winner, centre
        self.inverse = (variance + eps).rsqrt()
        self.scale = gamma * self.inverse
        self.beta = g.sum(0)
        # Where gamma = 0, normal is not the winner's value, but the scale it is multiplied with is 0.
        slope = self.scale * self.inverse * (g * normal).sum(0) / rows
        self.square = weight.t() @ (weight * -slope[:, None])
        self.constant = (self.scale * self.beta / -rows) @ weight
        self.covariance = covariance
        self.winning = torch.zeros_like(weight)

    def rows(self, part: slice, h: Tensor, out: Tensor, buffer: Tensor) -> Tensor:
        """The gradient of the part's rows h [n, K], in ``out``; ``buffer`` is as large."""
        groups = slice(part.start // self.group, part.stop // self.group)
        winner, g = self.winner[groups], self.g[groups]
        centred = torch.sub(h, self.centre, out=buffer)
        torch.addmm(self.constant, centred, self.square, out=out)
        # A GPU would add up a channel's winners in one thread, for milliseconds where there are thousands of groups.
        sparse = h.device.type == "cpu" or len(winner) <= 1024
        return (self._add_sparse if sparse else self._add_dense)(winner, g, centred, out)

    def _add_sparse(self, winner: Tensor, g: Tensor, centred: Tensor, out: Tensor) -> Tensor:
        # G has one entry a group and channel: sums of its entries by channel for W, and sorted by row for h.
        row = winner + self.group * torch.arange(len(winner), dtype=winner.dtype, device=winner.device)[:, None]
        size, channels = row.shape
        channel_offsets = torch.arange(0, channels * size, size, dtype=row.dtype, device=row.device)
        self.winning += segment_sum(centred, row.t().flatten(), channel_offsets, g.t().flatten())
        order, row_offsets = segment_order(row.flatten(), len(centred))
        return out.add_(segment_sum(self.weight, order % channels, row_offsets, (g * self.scale).flatten()[order]))

    def _add_dense(self, winner: Tensor, g: Tensor, centred: Tensor, out: Tensor) -> Tensor:
        # Two products with the whole of G. No two winners share an entry, so that they can be written in any order.
        entries = g.new_zeros(len(winner), self.group, len(self.weight)).scatter_(1, winner[:, None].long(), g[:, None])
        entries = entries.flatten(0, 1)
        self.winning.addmm_(entries.t(), centred)
        return out.addmm_(entries.mul_(self.scale), self.weight)

    def parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of weight, gamma and beta, once all parts have been through :meth:`rows`."""
        gamma = (self.weight * self.winning).sum(1) * self.inverse
        linear = self.winning - (gamma * self.inverse)[:, None] * (self.weight @ self.covariance)
        return self.scale[:, None] * linear, gamma, self.beta

"""Edge convolution: a layer on pairs of neighbors and the maximum over the pairs, without the pairs in memory."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from comhe.autograd import Operation
from comhe.errors import UsageError
from comhe.zoo.eager import eager
from comhe.zoo.norms import GlobalBatchNorm, scale_and_shift, update_running

from .chain import row_blocks
from .operations import flat_index, gather_rows, occurrences, segment_order, segment_sum
from .pooling import first_maxima


class EdgeConv(nn.Module):
    r"""One layer on the edges from every point i to its neighbors j, and the maximum over the neighbors.

    .. math:: \mathrm{out}_i = \max_j \mathrm{leakyrelu}(\mathrm{BN}([x_j - x_i, \, x_i] \, [W_1, W_2]^\top))

    The product is :math:`x_j W_1^\top + x_i (W_2 - W_1)^\top`: two products per point instead of one per edge. Training
    cannot be differentiated twice, and ``torch.compile`` does not compile it. On a GPU the order in which a gradient's
    terms are added is not fixed.

    Shape: x [B, N, in_channels], index int64 [B, N, k] of the neighbors -> [B, N, out_channels]
    Source: Wang et al., Dynamic Graph CNN for Learning on Point Clouds, ACM TOG 2019.
    """

    def __init__(self, in_channels: int, out_channels: int, slope: float = 0.2) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * in_channels, out_channels, bias=False)
        self.norm = nn.BatchNorm1d(out_channels)
        self.slope = slope

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        neighbor, center = self.linear.weight.chunk(2, 1)
        rows, index = x.flatten(0, 1), flat_index(index, x.shape[1]).view(-1, index.shape[-1])
        if self.norm.training:
            return self._train(rows, neighbor, center - neighbor, index).view(*x.shape[:2], self.norm.num_features)
        scale, shift = scale_and_shift(self.norm)
        from_neighbor = F.linear(rows, neighbor * scale[:, None])
        from_center = F.linear(rows, (center - neighbor) * scale[:, None], shift)
        blocks = row_blocks(rows.shape[0], 1, index.shape[1] * from_neighbor.shape[1], x.device)
        edges = (gather_rows(from_neighbor, index[block].flatten()) for block in blocks)
        tops = [rows.unflatten(0, (-1, index.shape[1])).amax(1) for rows in edges]
        return F.leaky_relu(torch.cat(tops) + from_center, self.slope).view(*x.shape[:2], self.norm.num_features)

    @eager
    def _train(self, rows: Tensor, neighbor: Tensor, center: Tensor, index: Tensor) -> Tensor:
        if index.numel() < 2:
            raise UsageError(f"batch norm needs at least two edges in training, not {index.numel()}")
        with torch.autocast(rows.device.type, enabled=False):
            rows, norm = rows.to(neighbor.dtype), self.norm
            p, q = F.linear(rows, neighbor), F.linear(rows, center)
            if isinstance(norm, GlobalBatchNorm):  # by torch's operations, which keep every edge in memory
                edges = norm(gather_rows(p, index.flatten()) + q.repeat_interleave(index.shape[1], 0))
                return F.leaky_relu(edges.unflatten(0, index.shape).max(1).values, self.slope)
            out, mean, variance, *_ = _EdgeMax.apply(p, q, norm.weight, norm.bias, index, norm.eps, self.slope)
        update_running(norm, mean, variance, index.numel())
        return out

    def extra_repr(self) -> str:
        return f"slope={self.slope}"


class _EdgeMax(Operation):
    r"""act(max_j BN(P_j + Q_i)) of P, Q [n, C] and index [n, k]; the statistics are over R = n k edges.

    Backward: on every edge dy = a G + c + s y, where G is the gradient g before the activation at the winners and zero
    elsewhere, and c and s come from batch norm as in :class:`.pooling.MaxLayerGradient`. Summed over a point's edges,

    .. math:: dQ_i = a g_i + k (c + s Q_i) + s \sum_{j \in N(i)} P_j, \qquad
              dP_j = a T_j + d_j (c + s P_j) + s \sum_{i : j \in N(i)} Q_i

    where T is g scattered to the winning neighbors and d_j is how often j is a neighbor.
    """

    @staticmethod
    def forward(p, q, gamma, beta, index, eps, slope):
        n, k = index.shape
        sign = gamma.sign()
        # Centered, so that little cancels in the variance.
        p_mean, q_mean = p.mean(0), q.mean(0)
        centered_p, centered_q = p - p_mean, q - q_mean
        signed = centered_p * sign  # where gamma = 0 all neighbors are equal, and the first wins
        blocks = row_blocks(n, 1, k * p.shape[1], p.device)
        buffer = p.new_empty(blocks[0].stop * k, p.shape[1])
        tops, winners = [], []
        for block in blocks:
            edges = buffer[: (block.stop - block.start) * k]
            edges = torch.index_select(signed, 0, index[block].flatten(), out=edges).view(-1, k, p.shape[1])
            top, first = first_maxima(edges)
            tops.append(top)
            winners.append(index[block].gather(1, first.long()))
        degree = occurrences(index.flatten(), n).to(p.dtype)[:, None]
        neighbors = segment_sum(centered_p, index.flatten(), torch.arange(0, n * k, k, device=index.device))
        weighted = centered_p * degree
        offset = weighted.sum(0).double() / (n * k)
        square = (weighted * centered_p).sum(0) + (centered_q * (2 * neighbors + k * centered_q)).sum(0)
        variance = (square.double() / (n * k) - offset * offset).clamp_min_(0)
        mean = (p_mean + q_mean + offset).to(p.dtype)
        inverse = (variance + eps).rsqrt().to(p.dtype)
        z = (torch.cat(tops) * sign + centered_q - offset.to(p.dtype)) * (inverse * gamma) + beta
        sums = neighbors + k * p_mean
        return F.leaky_relu_(z, slope), mean, variance.to(p.dtype), torch.cat(winners), degree, sums

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        *tensors, ctx.eps, ctx.slope = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *output)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient, *_):
        if gradient is None:
            return (None,) * 7
        p, q, gamma, _, index, out, mean, variance, winner, degree, sums = (t.detach() for t in ctx.saved_tensors)
        n, k = index.shape
        g = torch.where(out > 0, gradient, ctx.slope * gradient)
        scattered = torch.zeros_like(p).scatter_add_(0, winner, g)
        inverse = (variance + ctx.eps).rsqrt()
        a, dbeta = gamma * inverse, g.sum(0)
        dgamma = ((scattered * p).sum(0) + (g * q).sum(0) - mean * dbeta) * inverse
        s = -a * inverse * dgamma / (n * k)
        c = -a * dbeta / (n * k) - s * mean
        order, offsets = segment_order(index.flatten(), n)
        reverse = segment_sum(q, order // k, offsets)
        dp = scattered.mul_(a).add_(torch.addcmul(c, p, s).mul_(degree)).addcmul_(reverse, s)
        dq = torch.addcmul(c, q, s).mul_(k).addcmul_(g, a).addcmul_(sums, s)
        return dp, dq, dgamma, dbeta, None, None, None

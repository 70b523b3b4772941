"""Training of a shared MLP as one operation with its own gradient."""

import torch
from torch import Tensor
from torch.nn import functional as F

from comhe.autograd import Operation

from .chain import Chain
from .operations import segment_order, segment_sum
from .pooling import MaxLayerGradient, max_layer


class FusedMLP(Operation):
    """Layers of linear, batch norm and ReLU on R rows, and perhaps the maximum over groups of rows.

    The backward pass stores only the linear outputs of the layers between the first and the last; batch norm and ReLU
    are computed again, block by block.
    """

    @staticmethod
    def forward(x, table, index, group, slope, eps, *parameters):
        """Return the output [G, C] or [R, C], the layers' means and biased variances, and what else backward needs.

        Arguments are :class:`.chain.Chain`'s; a ``group`` of rows forms a maximum unless it is 0, and ``slope`` is
        that of the activation after the maximum, below zero.
        """
        chain = Chain(x, table, index, group, eps, parameters)
        below = chain.depth - 2 if group else chain.depth - 1  # the last layer whose outputs are rows
        for _ in range(below + 1):
            chain.advance()
        if group:
            blocks = chain.blocks(below + 1)
            weight, gamma, beta = chain.weights[-1], chain.gammas[-1], chain.betas[-1]
            hidden = chain.reader(below, blocks)
            z, mean, variance, *state = max_layer(hidden, blocks, group, weight, gamma, beta, eps[-1])
            out = F.leaky_relu_(z, slope)
            chain.means.append(mean)
            chain.variances.append(variance)
        else:
            out, state = chain.activations(below), ()
        return (out, *chain.means, *chain.variances, *state, *(y for y in chain.stored if y is not None))

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        x, table, index, ctx.group, ctx.slope, ctx.eps, *parameters = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)  # they would be zeros as large as all that is stored
        ctx.parameters = len(parameters)
        ctx.save_for_backward(x, table, index, *parameters, *output)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient, *_):
        if gradient is None:
            return (None,) * (6 + ctx.parameters)
        # Detached, because embedding_bag does more for tensors that require a gradient, recorded or not.
        x, table, index, *rest = (t if t is None else t.detach() for t in ctx.saved_tensors)
        parameters, (out, *saved) = rest[: ctx.parameters], rest[ctx.parameters :]
        with torch.autocast(x.device.type, enabled=False):
            chain = _Backward(x, table, index, ctx.group, ctx.eps, parameters, saved)
            if ctx.group:
                dz = chain.through_max(torch.where(out > 0, gradient, ctx.slope * gradient))
            else:
                dz = chain.from_rows(gradient * out.sign())
            for layer in reversed(range(1, chain.top + 1)):
                dz = chain.through_layer(layer, dz)
            dx, dtable = chain.through_first(dz, *ctx.needs_input_grad[:2])
        return dx, dtable, None, None, None, None, *chain.dweights, *chain.dgammas, *chain.dbetas


class _Backward(Chain):
    r"""Gradients from the last layer to the first, with dz the gradient of a layer's normalized outputs, [R, C].

    Batch norm's backward is affine in the linear outputs y, with R rows, a = gamma / sigma and sums over the rows:

    .. math:: dy = a \Big( dz - \frac{\beta'}{R} - \frac{y - \mu}{\sigma} \frac{\gamma'}{R} \Big), \qquad
              \beta' = \sum dz, \quad \gamma' = \sum dz \frac{y - \mu}{\sigma}

    The pass that computes a layer's dz also computes the two sums.
    """

    def __init__(self, x, table, index, group, eps, parameters, saved: list[Tensor]) -> None:
        super().__init__(x, table, index, group, eps, parameters)
        depth = self.depth
        self.means, self.variances, saved = saved[:depth], saved[depth : 2 * depth], saved[2 * depth :]
        self.pool, saved = (saved[:4], saved[4:]) if group else ([], saved)
        self.stored = [None, *saved] if self.narrow else list(saved)
        self.top = depth - 2 if group else depth - 1  # the last layer whose outputs are rows
        self.dweights: list[Tensor | None] = [None] * depth
        self.dgammas: list[Tensor | None] = [None] * depth
        self.dbetas: list[Tensor | None] = [None] * depth
        self.sums: _Sums

    def through_max(self, gradient: Tensor) -> Tensor:
        """Compute, from the gradient of the maxima before their activation, [G, C], dz of the layer below."""
        last = self.depth - 1
        weight, gamma, eps, variance = self.weights[last], self.gammas[last], self.eps[last], self.variances[last]
        pool = MaxLayerGradient(gradient, len(self.x), self.group, weight, gamma, eps, variance, *self.pool)
        blocks = self.blocks(self.top)
        read, buffer = self.reader(self.top, blocks), self.buffer(blocks, self.top)
        dz = self.x.new_empty(len(self.x), buffer.shape[1])
        self.sums = _Sums(buffer)
        for block in blocks:
            h = read(block)
            rows = pool.rows(block, h, dz[block], buffer[: len(h)]).mul_(h.sign_())
            self.sums.add(rows, self.linear(self.top, block, buffer))
        self.dweights[last], self.dgammas[last], self.dbetas[last] = pool.parameters()
        return dz

    def from_rows(self, dz: Tensor) -> Tensor:
        """Compute the sums for a dz that no pass has computed."""
        blocks = self.blocks(self.top)
        buffer = self.buffer(blocks, self.top)
        self.sums = _Sums(buffer)
        for block in blocks:
            self.sums.add(dz[block], self.linear(self.top, block, buffer))
        return dz

    def through_layer(self, layer: int, dz: Tensor) -> Tensor:
        """Compute, from one layer's dz, that of the layer below, in the same memory where it fits."""
        scale, slope, constant = self._norm(layer)
        blocks, weight = self.blocks(layer), self.weights[layer]
        below = dz if weight.shape[0] == weight.shape[1] else dz.new_empty(len(dz), weight.shape[1])
        dy, buffer = self.buffer(blocks, layer), self.buffer(blocks, layer - 1)
        read, dweight = self.reader(layer - 1, blocks), torch.zeros_like(weight)
        self.sums = _Sums(buffer)
        for block in blocks:
            y = self.linear(layer, block, dy)
            rows = torch.addcmul(constant, y, slope, out=dy[: len(y)]).addcmul_(dz[block], scale)
            h = read(block)
            dweight.addmm_(rows.t(), h)
            rows = torch.mm(rows, weight, out=below[block]).mul_(h.sign_())
            self.sums.add(rows, self.linear(layer - 1, block, buffer))
        self.dweights[layer] = dweight
        return below

    def through_first(self, dz: Tensor, needs_x: bool, needs_table: bool) -> tuple[Tensor | None, Tensor | None]:
        """Compute, from the first layer's dz, the gradients of x and the table. Overwrites dz."""
        scale, slope, constant = self._norm(0)
        blocks, weight = self.blocks(0), self.weights[0]
        dx = torch.empty_like(self.x) if needs_x else None
        buffer, dweight = self.buffer(blocks, 0), torch.zeros_like(weight.t())
        for block in blocks:
            y = self.linear(0, block, buffer)
            affine = torch.addcmul(constant, y, slope, out=buffer[: len(y)])
            rows = torch.addcmul(affine, dz[block], scale, out=dz[block])
            dweight.addmm_(self.x[block].t(), rows)
            if dx is not None:
                torch.mm(rows, weight, out=dx[block])
        self.dweights[0] = dweight.t()
        if not needs_table or self.table is None or self.index is None:
            return dx, None
        return dx, segment_sum(dz, *segment_order(self.index, len(self.table)))

    def _norm(self, layer: int) -> tuple[Tensor, ...]:
        """Compute batch norm's backward as dy = scale * dz + slope * y + constant."""
        rows, mean = len(self.x), self.means[layer].double()
        inverse = (self.variances[layer].double() + self.eps[layer]).rsqrt()
        dbeta = self.sums.total
        dgamma = (self.sums.product - mean * dbeta) * inverse
        scale = self.gammas[layer].double() * inverse
        slope = -scale * inverse * dgamma / rows
        constant = -scale * dbeta / rows - slope * mean
        results = (t.to(self.x.dtype) for t in (dgamma, dbeta, scale, slope, constant))
        self.dgammas[layer], self.dbetas[layer], *affine = results
        return tuple(affine)


class _Sums:
    """The sums over all rows of dz and of dz * y, [C] each, in float64 over the blocks."""

    def __init__(self, buffer: Tensor) -> None:
        self.buffer = buffer
        self.total, self.product = buffer.new_zeros(2, buffer.shape[1], dtype=torch.float64)

    def add(self, dz: Tensor, y: Tensor) -> None:
        self.total += dz.sum(0)
        self.product += torch.mul(dz, y, out=self.buffer[: len(y)]).sum(0)

"""Training of a shared MLP as one operation with its own gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .chain import Chain
from .operations import segment_order, segment_sum
from .pooling import MaxLayerGradient, max_layer


class FusedMLP(torch.autograd.Function):
    """Layers of linear, batch norm and ReLU on R rows, and perhaps the maximum over groups of rows.

    Kept for the backward are only the linear outputs of the layers between the first and the last; what batch norm and
    ReLU make of them is computed again, block by block.
    """

    @staticmethod
    def forward(x, table, index, group, slope, eps, *parameters):
        """Arguments as for :class:`.chain.Chain`; group: rows to a maximum, or 0 for none; slope: of the last
        activation below zero, if there is a maximum.

        Returns the output, [G, C] or [R, C], the layers' means and biased variances, and what else backward needs.
        """
        chain = Chain(x, table, index, group, eps, parameters)
        below = chain.depth - 2 if group else chain.depth - 1  # the last layer whose outputs are rows
        for _ in range(below + 1):
            chain.advance()
        if group:
            parts = chain.parts(below + 1)
            weight, gamma, beta = chain.weights[-1], chain.gammas[-1], chain.betas[-1]
            z, mean, variance, *state = max_layer(
                chain.reader(below, parts), parts, group, weight, gamma, beta, eps[-1]
            )
            out = F.leaky_relu_(z, slope)
            chain.means.append(mean)
            chain.variances.append(variance)
        else:
            out, state = chain.activations(below), ()
        return (out, *chain.means, *chain.variances, *state, *(y for y in chain.kept if y is not None))

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        x, table, index, ctx.group, ctx.slope, ctx.eps, *parameters = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)  # zeros as large as all that is kept
        ctx.parameters = len(parameters)
        ctx.save_for_backward(x, table, index, *parameters, *output)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient, *_):
        if gradient is None:
            return (None,) * (6 + ctx.parameters)
        # Detached, because embedding_bag does more for tensors that require a gradient, recorded or not.
        x, table, index, *rest = (t if t is None else t.detach() for t in ctx.saved_tensors)
        parameters, (out, *known) = rest[: ctx.parameters], rest[ctx.parameters :]
        with torch.autocast(x.device.type, enabled=False):
            chain = _Backward(x, table, index, ctx.group, ctx.eps, parameters, known)
            if ctx.group:
                dz = chain.through_max(torch.where(out > 0, gradient, ctx.slope * gradient))
            else:
                dz = chain.from_rows(gradient * out.sign())
            for layer in reversed(range(1, chain.top + 1)):
                dz = chain.through_layer(layer, dz)
            dx, dtable = chain.through_first(dz, *ctx.needs_input_grad[:2])
        return dx, dtable, None, None, None, None, *chain.dweights, *chain.dgammas, *chain.dbetas


class _Backward(Chain):
    r"""From the last layer to the first, with dz the gradient of a layer's normalised outputs, [R, C].

    Batch norm's backward is affine in the linear outputs y, with R rows, a = gamma / sigma and sums over the rows:

    .. math:: dy = a \Big( dz - \frac{\beta'}{R} - \frac{y - \mu}{\sigma} \frac{\gamma'}{R} \Big), \qquad
              \beta' = \sum dz, \quad \gamma' = \sum dz \frac{y - \mu}{\sigma}

    The pass that makes a layer's dz takes the two sums as well.
    """

    def __init__(self, x, table, index, group, eps, parameters, known: list[Tensor]) -> None:
        super().__init__(x, table, index, group, eps, parameters)
        depth = self.depth
        self.means, self.variances, known = known[:depth], known[depth : 2 * depth], known[2 * depth :]
        self.pool, known = (known[:4], known[4:]) if group else ((), known)
        self.kept = [None, *known] if self.narrow else known
        self.top = depth - 2 if group else depth - 1  # the last layer whose outputs are rows
        self.dweights: list[Tensor | None] = [None] * depth
        self.dgammas: list[Tensor | None] = [None] * depth
        self.dbetas: list[Tensor | None] = [None] * depth
        self.sums: _Sums

    def through_max(self, gradient: Tensor) -> Tensor:
        """From the gradient of the maxima before their activation, [G, C], to dz of the layer below."""
        last = self.depth - 1
        pool = MaxLayerGradient(
            gradient,
            len(self.x),
            self.group,
            self.weights[last],
            self.gammas[last],
            self.eps[last],
            self.variances[last],
            *self.pool,
        )
        parts = self.parts(self.top)
        read, buffer = self.reader(self.top, parts), self.buffer(parts, self.top)
        dz = self.x.new_empty(len(self.x), buffer.shape[1])
        self.sums = _Sums(buffer)
        for part in parts:
            h = read(part)
            block = pool.rows(part, h, dz[part], buffer[: len(h)]).mul_(h.sign_())
            self.sums.add(block, self.linear(self.top, part, buffer))
        self.dweights[last], self.dgammas[last], self.dbetas[last] = pool.parameters()
        return dz

    def from_rows(self, dz: Tensor) -> Tensor:
        """Take the sums that no pass has taken yet."""
        parts = self.parts(self.top)
        buffer = self.buffer(parts, self.top)
        self.sums = _Sums(buffer)
        for part in parts:
            self.sums.add(dz[part], self.linear(self.top, part, buffer))
        return dz

    def through_layer(self, layer: int, dz: Tensor) -> Tensor:
        """From one layer's dz to that of the layer below, in the same memory where it fits."""
        scale, slope, constant = self._norm(layer)
        parts, weight = self.parts(layer), self.weights[layer]
        below = dz if weight.shape[0] == weight.shape[1] else dz.new_empty(len(dz), weight.shape[1])
        dy, buffer = self.buffer(parts, layer), self.buffer(parts, layer - 1)
        read, dweight = self.reader(layer - 1, parts), torch.zeros_like(weight)
        self.sums = _Sums(buffer)
        for part in parts:
            y = self.kept[layer][part]
            block = torch.addcmul(constant, y, slope, out=dy[: len(y)]).addcmul_(dz[part], scale)
            h = read(part)
            dweight.addmm_(block.t(), h)
            block = torch.mm(block, weight, out=below[part]).mul_(h.sign_())
            self.sums.add(block, self.linear(layer - 1, part, buffer))
        self.dweights[layer] = dweight
        return below

    def through_first(self, dz: Tensor, needs_x: bool, needs_table: bool) -> tuple[Tensor | None, Tensor | None]:
        """From the first layer's dz to the gradients of x and the table. Overwrites dz."""
        scale, slope, constant = self._norm(0)
        parts, weight = self.parts(0), self.weights[0]
        dx = torch.empty_like(self.x) if needs_x else None
        buffer, dweight = self.buffer(parts, 0), torch.zeros_like(weight.t())
        for part in parts:
            y = self.linear(0, part, buffer)
            affine = torch.addcmul(constant, y, slope, out=buffer[: len(y)])
            block = torch.addcmul(affine, dz[part], scale, out=dz[part])
            dweight.addmm_(self.x[part].t(), block)
            if dx is not None:
                torch.mm(block, weight, out=dx[part])
        self.dweights[0] = dweight.t()
        return dx, segment_sum(dz, *segment_order(self.index, len(self.table))) if needs_table else None

    def _norm(self, layer: int) -> tuple[Tensor, ...]:
        """Batch norm's backward as dy = scale * dz + slope * y + constant."""
        rows, mean = len(self.x), self.means[layer].double()
        inverse = (self.variances[layer].double() + self.eps[layer]).rsqrt()
        dbeta = self.sums.total
        dgamma = (self.sums.product - mean * dbeta) * inverse
        scale = self.gammas[layer].double() * inverse
        slope = -scale * inverse * dgamma / rows
        constant = -scale * dbeta / rows - slope * mean
        self.dgammas[layer], self.dbetas[layer], *affine = (
            t.to(self.x.dtype) for t in (dgamma, dbeta, scale, slope, constant)
        )
        return tuple(affine)


class _Sums:
    """The sums over all rows of dz and of dz * y, [C] each, in float64 over the blocks."""

    def __init__(self, buffer: Tensor) -> None:
        self.buffer = buffer
        self.total, self.product = buffer.new_zeros(2, buffer.shape[1], dtype=torch.float64)

    def add(self, dz: Tensor, y: Tensor) -> None:
        self.total += dz.sum(0)
        self.product += torch.mul(dz, y, out=self.buffer[: len(y)]).sum(0)

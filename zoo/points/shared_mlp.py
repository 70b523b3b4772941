"""Layers that are the same at every point, and the classifiers after them."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from comhe.errors import UsageError, check_dropout
from comhe.zoo.eager import eager
from comhe.zoo.norms import GlobalBatchNorm, scale_and_shift, update_running

from .chain import row_blocks
from .fused import FusedMLP
from .operations import gather_rows


class SharedMLP(nn.Module):
    r"""Linear layers without bias, each with batch norm and ReLU, at every point, and with ``pool`` their maximum.

    .. math:: h_l = \mathrm{relu}(\mathrm{BN}(h_{l-1} W_l^\top)), \qquad
              \mathrm{out}_g = \mathrm{act}\Big(\max_{r \in g} \mathrm{BN}(h_{L-1} W_L^\top)_r\Big)

    ``widths`` are those of the input and of every layer, at least two with a maximum; ``slope`` is that of the
    activation after the maximum, below zero: 0 for ReLU, 1 for none. Weights are those of ordinary ``nn.Linear`` and
    ``nn.BatchNorm1d`` children. A bias before batch norm would change nothing but the running mean. Training is one
    fused operation (see :mod:`.fused`) that cannot be differentiated twice and that ``torch.compile`` does not compile;
    evaluation folds batch norm into the weights and uses torch's operations. Where several processes share batch norm's
    batch, so does training, which then takes more memory.

    Shape: x [G, K, C]: G groups of K rows; features [n, D] with index int64 [G, K] add D columns ``features[index]``,
        where widths[0] = C + D -> [G, widths[-1]] with pool, else [G, K, widths[-1]]
    """

    linears: Any  # a ModuleList of Linear
    norms: Any  # a ModuleList of BatchNorm1d

    def __init__(self, widths: Sequence[int], pool: bool = True, slope: float = 0.0) -> None:
        super().__init__()
        if len(widths) < 2 + pool:
            raise UsageError(f"widths must name an input and at least {1 + pool} layers, not {list(widths)}")
        self.pool, self.slope = pool, slope
        self.linears = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for width in widths[1:])

    def forward(self, x: Tensor, features: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        width = x.shape[-1] + (0 if features is None else features.shape[-1])
        if width != self.linears[0].in_features:
            raise UsageError(f"the input has {width} columns, the first layer takes {self.linears[0].in_features}")
        training = [norm.training for norm in self.norms]
        if all(training):
            return self._train(x, features, index)
        if any(training):
            raise UsageError("the batch norms of one SharedMLP must be all in training or all in evaluation mode")
        return self._evaluate(x, features, index)

    @eager
    def _train(self, x: Tensor, features: Tensor | None, index: Tensor | None) -> Tensor:
        if isinstance(self.norms[0], GlobalBatchNorm):
            with torch.autocast(x.device.type, enabled=False):
                return self._train_layers(x.to(self.linears[0].weight.dtype), features, index)
        count = x.shape[0] * x.shape[1]
        if count < 2:
            raise UsageError(f"batch norm needs at least two rows in training, not {count}")
        first, *others = (linear.weight for linear in self.linears)
        with torch.autocast(x.device.type, enabled=False):
            table = None
            if features is not None and index is not None:
                # The product of a point's features does not depend on its group: computed once, gathered many times.
                first, rest = first.split([x.shape[-1], features.shape[-1]], 1)
                table, index = F.linear(features.to(rest.dtype), rest), index.flatten()
            rows, size = x.flatten(0, 1).to(first.dtype).contiguous(), x.shape[1] if self.pool else 0
            eps, gammas, betas = zip(*((norm.eps, norm.weight, norm.bias) for norm in self.norms), strict=True)
            out, *state = FusedMLP.apply(rows, table, index, size, self.slope, eps, first, *others, *gammas, *betas)
        depth = len(self.norms)
        for norm, mean, variance in zip(self.norms, state[:depth], state[depth : 2 * depth], strict=True):
            update_running(norm, mean, variance, count)
        return out if self.pool else out.unflatten(0, x.shape[:2])

    def _train_layers(self, x: Tensor, features: Tensor | None, index: Tensor | None) -> Tensor:
        """Train layer by layer, with the statistics of the batch norms."""
        groups = x.shape[:2]
        weight, *others = (linear.weight for linear in self.linears)
        rest = weight[:, x.shape[-1] :]
        h = F.linear(x.flatten(0, 1), weight[:, : x.shape[-1]])
        if features is not None and index is not None:
            h = h + gather_rows(F.linear(features.to(rest.dtype), rest), index.flatten())
        h = self.norms[0](h)
        for weight, norm in zip(others, self.norms[1:], strict=True):
            h = norm(F.linear(F.relu(h), weight))
        h = h.unflatten(0, groups)
        return F.leaky_relu(h.max(1).values, self.slope) if self.pool else F.relu(h)

    def _evaluate(self, x: Tensor, features: Tensor | None, index: Tensor | None) -> Tensor:
        layers = []  # weights and biases of the linear layers that do what linear and batch norm do in evaluation
        for linear, norm in zip(self.linears, self.norms, strict=True):
            scale, shift = scale_and_shift(norm)
            layers.append((linear.weight * scale[:, None], shift))
        (weight, bias), *layers = layers
        table = None
        if features is not None:
            weight, rest = weight.split([x.shape[-1], features.shape[-1]], 1)
            table = F.linear(features, rest)
        widest = max(linear.out_features for linear in self.linears)
        result = []
        for block in row_blocks(x.shape[0], 1, x.shape[1] * widest, x.device):
            h = F.linear(x[block], weight, bias)
            if table is not None and index is not None:
                h = h + gather_rows(table, index[block].flatten()).view_as(h)
            for layer in layers:
                h = F.linear(F.relu(h), *layer)
            result.append(F.leaky_relu(h.amax(1), self.slope) if self.pool else F.relu(h))
        return torch.cat(result) if len(result) > 1 else result[0]

    def extra_repr(self) -> str:
        return f"pool={self.pool}, slope={self.slope}"


class Head(nn.Module):
    """Fully connected layers without bias, each with batch norm, activation and dropout, and an output layer with bias.

    ``widths`` are those of the input and of every hidden layer, ``slope`` is the activation's below zero.

    Shape: [B, widths[0]] -> [B, out_features]
    """

    def __init__(self, widths: Sequence[int], out_features: int, dropout: Sequence[float], slope: float = 0.0) -> None:
        super().__init__()
        for p in dropout:
            check_dropout(p)
        self.dropout, self.slope = tuple(dropout), slope
        self.linears = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for width in widths[1:])
        self.output = nn.Linear(widths[-1], out_features)

    def forward(self, x: Tensor) -> Tensor:
        for linear, norm, p in zip(self.linears, self.norms, self.dropout, strict=True):
            x = F.leaky_relu(norm(linear(x)), self.slope)
            x = F.dropout(x, p, self.training)
        return self.output(x)

    def extra_repr(self) -> str:
        return f"dropout={self.dropout}, slope={self.slope}"

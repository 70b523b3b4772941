"""PointNet++ for classification, single-scale and multi-scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from comhe.zoo.registry import register_model

from .model import PointModel
from .operations import farthest_point_sampling, flat_index, group, query_and_group
from .shared_mlp import Head, SharedMLP


@dataclass(frozen=True)
class Scale:
    """Balls of one radius, the number of points taken of each, and the widths of the layers at these points."""

    radius: float
    count: int
    widths: tuple[int, ...]


class SetAbstraction(nn.Module):
    """A small PointNet on the ball of points around each centre, in one or several scales.

    Rows are the coordinates relative to the centre, then the features. The scales' outputs are put side by side.

    Shape:
        points [B, N, 3], features [B, N, in_channels] or None (in_channels 0), centres [B, M, 3]
        -> [B, M, sum of the scales' last widths]
    """

    def __init__(self, in_channels: int, scales: Sequence[Scale]) -> None:
        super().__init__()
        self.scales = tuple(scales)
        self.mlps = nn.ModuleList(SharedMLP([3 + in_channels, *scale.widths]) for scale in scales)

    @property
    def out_channels(self) -> int:
        return sum(scale.widths[-1] for scale in self.scales)

    def forward(self, points: Tensor, features: Tensor | None, centres: Tensor) -> Tensor:
        batch, number, _ = centres.shape
        result = []
        for scale, mlp in zip(self.scales, self.mlps, strict=True):
            index, x = query_and_group(points, centres, scale.radius, scale.count)
            x = x.flatten(0, 1)
            if features is None:
                out = mlp(x)
            else:
                rows = flat_index(index, points.shape[1]).view(x.shape[:2])
                out = mlp(x, features.flatten(0, 1), rows)
            result.append(out.view(batch, number, -1))
        return torch.cat(result, -1)

    def extra_repr(self) -> str:
        return ", ".join(f"{scale.count} points within {scale.radius}" for scale in self.scales)


class PointNet2(PointModel):
    """Two set abstractions at farthest points, a PointNet on all that is left, and a classifier.

    Sampling starts at point 0 in evaluation. In training it starts at random, drawn like dropout from torch's default
    generator, unless ``start`` says where. The second level's centres are the first of the first level's, which is what
    farthest point sampling would choose of them.

    A permutation of the points that leaves point 0 in place changes nothing in evaluation, as long as no ball holds
    more points than are taken of it: beyond that, the published rule takes the first in order of index.

    Shape:
        x as :class:`PointModel` says; start int64 [B] or None.
    Source: Qi et al., PointNet++, NeurIPS 2017 (github.com/charlesq34/pointnet2).
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        centres: tuple[int, int],
        scales: tuple[Sequence[Scale], Sequence[Scale]],
        dropout: float,
    ) -> None:
        super().__init__(in_channels, num_classes)
        self.centres = centres
        first = SetAbstraction(in_channels - 3, scales[0])
        self.levels = nn.ModuleList((first, SetAbstraction(first.out_channels, scales[1])))
        self.features = SharedMLP([3 + self.levels[1].out_channels, 256, 512, 1024])
        self.head = Head([1024, 512, 256], num_classes, (dropout, dropout))
        self.reset_parameters()

    def forward(self, x: Tensor, start: Tensor | None = None) -> Tensor:
        self.check(x)
        points, features = x[..., :3].contiguous(), x[..., 3:] if self.in_channels > 3 else None
        if start is None and self.training:
            start = torch.randint(x.shape[1], (x.shape[0],), device=x.device)
        chosen = group(points, farthest_point_sampling(points, self.centres[0], start))
        for level, number in zip(self.levels, self.centres, strict=True):
            centres = chosen[:, :number]
            points, features = centres, level(points, features, centres)
        return self.head(self.features(torch.cat((points, features), -1)))


@register_model(domain="points")
def pointnet2_ssg(num_classes: int = 40, in_channels: int = 3, dropout: float = 0.5) -> PointNet2:
    """PointNet++ with one scale: 32 of 0.2 about 512 centres, 64 of 0.4 about 128."""
    scales = [Scale(0.2, 32, (64, 64, 128))], [Scale(0.4, 64, (128, 128, 256))]
    return PointNet2(in_channels, num_classes, (512, 128), scales, dropout)


@register_model(domain="points")
def pointnet2_msg(num_classes: int = 40, in_channels: int = 3, dropout: float = 0.6) -> PointNet2:
    """PointNet++ with three scales a level; the released code keeps 0.4 of the hidden units."""
    first = Scale(0.1, 16, (32, 32, 64)), Scale(0.2, 32, (64, 64, 128)), Scale(0.4, 128, (64, 96, 128))
    second = Scale(0.2, 32, (64, 64, 128)), Scale(0.4, 64, (128, 128, 256)), Scale(0.8, 128, (128, 128, 256))
    return PointNet2(in_channels, num_classes, (512, 128), (first, second), dropout)

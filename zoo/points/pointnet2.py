"""PointNet++ for classification, single-scale and multi-scale."""

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
    """The radius of balls, the number of points sampled from each, and the widths of the layers at these points."""

    radius: float
    count: int
    widths: tuple[int, ...]


class SetAbstraction(nn.Module):
    """A small PointNet on the ball of points around each center, in one or several scales.

    Rows are the coordinates relative to the center, then the features. The scales' outputs are concatenated.

    Shape: points [B, N, 3], features [B, N, in_channels] or None (in_channels 0), centers [B, M, 3]
        -> [B, M, sum of the scales' last widths]
    """

    def __init__(self, in_channels: int, scales: Sequence[Scale]) -> None:
        super().__init__()
        self.scales = tuple(scales)
        self.mlps = nn.ModuleList(SharedMLP([3 + in_channels, *scale.widths]) for scale in scales)

    @property
    def out_channels(self) -> int:
        """The number of output features."""
        return sum(scale.widths[-1] for scale in self.scales)

    def forward(self, points: Tensor, features: Tensor | None, centers: Tensor) -> Tensor:
        batch, number, _ = centers.shape
        result = []
        for scale, mlp in zip(self.scales, self.mlps, strict=True):
            index, x = query_and_group(points, centers, scale.radius, scale.count)
            x = x.flatten(0, 1)
            if features is None:
                out = mlp(x)
            else:
                rows = flat_index(index, points.shape[1]).view(x.shape[:2])
                out = mlp(x, features.flatten(0, 1), rows)
            result.append(out.view(batch, number, out.shape[-1]))
        return torch.cat(result, -1)

    def extra_repr(self) -> str:
        return ", ".join(f"{scale.count} points within {scale.radius}" for scale in self.scales)


class PointNet2(PointModel):
    """Two set abstractions at farthest points, a PointNet on the remaining points, and a classifier.

    Sampling starts at point 0 in evaluation. In training it starts at random, drawn like dropout from torch's default
    generator, unless ``start`` (int64 [B]) is given. The second level's centers are the first of the first level's,
    which is what farthest point sampling would choose of them.

    A permutation of the points that keeps point 0 first changes nothing in evaluation, as long as no ball has more
    points than are sampled from it: of more, the published rule takes the first in order of index.

    Source: Qi et al., PointNet++, NeurIPS 2017 (github.com/charlesq34/pointnet2).
    """

    def __init__(
        self, in_channels: int, num_classes: int, centers: Sequence[int], scales: Sequence[list[Scale]], dropout: float
    ) -> None:
        super().__init__(in_channels, num_classes)
        self.centers = centers
        first = SetAbstraction(in_channels - 3, scales[0])
        second = SetAbstraction(first.out_channels, scales[1])
        self.levels = nn.ModuleList((first, second))
        self.features = SharedMLP([3 + second.out_channels, 256, 512, 1024])
        self.head = Head([1024, 512, 256], num_classes, (dropout, dropout))
        self.reset_parameters()

    def forward(self, x: Tensor, start: Tensor | None = None) -> Tensor:
        self.check_input(x)
        points = x[..., :3].contiguous()
        features: Tensor | None = x[..., 3:] if self.in_channels > 3 else None
        if start is None and self.training:
            start = torch.randint(x.shape[1], (x.shape[0],), device=x.device)
        sampled = group(points, farthest_point_sampling(points, self.centers[0], start))
        for level, number in zip(self.levels, self.centers, strict=True):
            centers = sampled[:, :number]
            points, features = centers, level(points, features, centers)
        assert features is not None
        return self.head(self.features(torch.cat((points, features), -1)))


@register_model(domain="points")
def pointnet2_ssg(num_classes: int = 40, in_channels: int = 3, dropout: float = 0.5) -> PointNet2:
    """PointNet++ with one scale: 32 points within 0.2 of 512 centers, 64 within 0.4 of 128."""
    scales = [Scale(0.2, 32, (64, 64, 128))], [Scale(0.4, 64, (128, 128, 256))]
    return PointNet2(in_channels, num_classes, (512, 128), scales, dropout)


@register_model(domain="points")
def pointnet2_msg(num_classes: int = 40, in_channels: int = 3, dropout: float = 0.6) -> PointNet2:
    """PointNet++ with three scales per level; the dropout is that of the released code."""
    first = [Scale(0.1, 16, (32, 32, 64)), Scale(0.2, 32, (64, 64, 128)), Scale(0.4, 128, (64, 96, 128))]
    second = [Scale(0.2, 32, (64, 64, 128)), Scale(0.4, 64, (128, 128, 256)), Scale(0.8, 128, (128, 128, 256))]
    return PointNet2(in_channels, num_classes, (512, 128), (first, second), dropout)

"""Random rotation, scale, translation, jitter and dropout of point clouds, as batched tensor code."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from comhe.datasets.sampling import ALL, Share
from comhe.errors import UsageError

AXES = {"x": 0, "y": 1, "z": 2}


@dataclass(frozen=True)
class PointAugmentation:
    r"""Random changes of every cloud, in this order.

    .. math::
        p' = s \odot (R\,p) + t + \varepsilon, \qquad n' \propto (R\,n) / s

    so that a normal n stays perpendicular to the surface (the inverse transpose of the linear part).

    Attributes:
        rotate: by any angle about the set's axis ``up`` or a named one (``x``, ``y``, ``z``), by any rotation (``all``,
            uniform on SO(3)), or not (``none``).
        scale: range of the uniform factors s; if ``isotropic``, one for a cloud, not one for each of its axes.
        translate: bound of the uniform translation t along each axis.
        jitter: standard deviation of the Gaussian noise on every coordinate, cut off at ``clip``.
        dropout: the largest fraction of points that are replaced by the cloud's first point; the fraction is drawn
            for every cloud from 0 to this.

    Example:
        >>> turn = PointAugmentation(rotate="z", jitter=0.0)
        >>> turn(torch.ones(2, 5, 3), torch.Generator().manual_seed(0)).shape
        torch.Size([2, 5, 3])
    """

    rotate: str = "up"
    scale: tuple[float, float] = (1.0, 1.0)
    isotropic: bool = False
    translate: float = 0.0
    jitter: float = 0.01
    clip: float = 0.05
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.rotate not in ("up", "none", "all", *AXES):
            raise UsageError(f"rotate must be 'up', 'none', 'all', 'x', 'y' or 'z', not {self.rotate!r}")
        if not 0 < self.scale[0] <= self.scale[1] < math.inf:
            raise UsageError(f"scale must be a range of positive factors, not {self.scale!r}")
        for name in ("translate", "jitter", "clip"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be >= 0, not {getattr(self, name)!r}")
        if not 0 <= self.dropout <= 1:
            raise UsageError(f"dropout must be in 0..1, not {self.dropout!r}")

    def __call__(
        self, clouds: Tensor, generator: torch.Generator, up: int = 1, batch_size: int | None = None, share: Share = ALL
    ) -> Tensor:
        """Return changed clouds, [b, P, 3] or with normals [b, P, 6].

        ``generator`` is on the same device; what is switched off draws nothing from it. Clouds that are a ``share`` of
        a batch of ``batch_size`` are changed as they would be in the full batch.
        """
        batch, count, channels = clouds.shape
        total = batch if batch_size is None else batch_size
        options: dict[str, Any] = {"dtype": clouds.dtype, "device": clouds.device, "generator": generator}

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return share.take(torch.rand((total, *shape), **options)).mul_(high - low).add_(low)

        def normal(*shape: int) -> Tensor:
            return share.take(torch.randn((total, *shape), **options))

        vectors = clouds.reshape(batch, -1, 3)  # the position of each point, and its normal if it has one
        if self.rotate == "all":
            vectors = vectors @ rotation(normal(4)).mT
        elif self.rotate != "none":
            vectors = vectors @ turn_about(AXES.get(self.rotate, up), uniform(0, 2 * math.pi)).mT
        positions, normals = vectors.view(batch, count, -1, 3).split([1, channels // 3 - 1], dim=2)
        if self.scale != (1.0, 1.0):
            factors = uniform(*self.scale, 1, 1, 1 if self.isotropic else 3)
            positions, normals = positions * factors, normalize(normals / factors, dim=-1)
        if self.translate:
            positions = positions + uniform(-self.translate, self.translate, 1, 1, 3)
        if self.jitter:
            positions = positions + normal(count, 1, 3).mul_(self.jitter).clamp_(-self.clip, self.clip)
        clouds = torch.cat([positions, normals], dim=2).view(batch, count, channels)
        if self.dropout:
            dropped = uniform(0, 1, count, 1) < uniform(0, self.dropout, 1, 1)
            clouds = torch.where(dropped, clouds[:, :1], clouds)
        return clouds


def turn_about(axis: int, angles: Tensor) -> Tensor:
    """Return rotations [b, 3, 3] by ``angles`` [b] about a coordinate axis, which act on columns."""
    c, s = angles.cos(), angles.sin()
    turn = torch.zeros(len(angles), 3, 3, dtype=angles.dtype, device=angles.device)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    turn[:, axis, axis] = 1
    turn[:, i, i], turn[:, i, j] = c, -s
    turn[:, j, i], turn[:, j, j] = s, c
    return turn


def rotation(quaternions: Tensor) -> Tensor:
    """Return rotations [b, 3, 3] of quaternions [b, 4] of any length; uniform on SO(3) if these are Gaussian."""
    w, x, y, z = normalize(quaternions, dim=-1).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


# As the papers' code trains on ModelNet-40, without the small tilts of PointNet++ (its dropout is the paper's DP).
AUGMENTATIONS = {
    "none": PointAugmentation(rotate="none", jitter=0.0),
    "pointnet": PointAugmentation(),
    "pointnet2": PointAugmentation(scale=(0.8, 1.25), isotropic=True, translate=0.1, dropout=0.875),
    "pointnext": PointAugmentation(rotate="none", scale=(2 / 3, 3 / 2), translate=0.2, jitter=0.0),
}

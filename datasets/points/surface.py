"""Points on triangle meshes, uniform by area."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from comhe.errors import DataError


def sample_surface(vertices: Tensor, faces: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    r"""Sample points on the surface of b meshes that share their faces, uniformly by area, with unit normals.

    A face is drawn with probability proportional to its area, and in it, with u and v uniform in [0, 1),

    .. math:: p = a + \sqrt{u}\,(1 - v)\,(b - a) + \sqrt{u}\,v\,(c - a)

    Normals are (b - a) x (c - a): outward if faces are counterclockwise.

    Shape: vertices [b, V, 3], faces int64 [F, 3] -> points [b, count, 3], normals [b, count, 3]
    """
    a, b, c = vertices[:, faces].unbind(2)
    cross = torch.linalg.cross(b - a, c - a)
    areas = cross.norm(dim=-1)
    sums = areas.cumsum(1)
    if not (sums[:, -1] > 0).all():
        raise DataError("a mesh has no area")
    draw = torch.rand(3, len(vertices), count, dtype=vertices.dtype, device=vertices.device, generator=generator)
    # right: a face without area is never the first whose sum lies beyond the draw
    chosen = torch.searchsorted(sums, draw[0] * sums[:, -1:], right=True).clamp_(max=len(faces) - 1)
    row = torch.arange(len(vertices), device=vertices.device)[:, None]
    a, b, c = a[row, chosen], b[row, chosen], c[row, chosen]
    root, along = draw[1].sqrt()[..., None], draw[2][..., None]
    points = a + root * (1 - along) * (b - a) + root * along * (c - a)
    return points, normalize(cross[row, chosen], dim=-1)

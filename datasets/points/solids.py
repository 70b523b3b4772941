"""The built-in set: twelve kinds of solids, each tilted, stretched, noisy and seen from one side only; generated.

Every solid is a profile turned about an axis in few or many steps (a square pyramid is a cone in four steps), then
stretched along three axes at random. Kinds run into each other on purpose: a tube with a narrow hole is nearly a
cylinder, a frustum with a narrow top nearly a cone, and some of each surface is cut away.
"""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from comhe.datasets.registry import register_dataset
from comhe.datasets.sampling import shuffled
from comhe.inputs.files import text_seed
from comhe.inputs.shapes import sample_surface

from .augment import rotation, turn_about
from .clouds import Clouds

EACH = {"train": 168, "val": 42, "test": 84}  # clouds of each kind
POINTS = 1024
UP = 1
ROUND = 32  # steps of what is round
STRETCH = 1.6  # largest factor along an axis; the smallest is its inverse
TILT = 0.3  # standard deviation of the angle between the axis and up, in radians
HIDDEN = 0.35  # largest share of the surface that is cut away
NOISE = 0.03  # largest standard deviation of the noise; most solids have a radius between 1 and 2


def load_solids(normals: bool) -> Clouds:
    """Load points [n, 1024, 3] or with normals [n, 1024, 6]: the same in every process, up to rounding everywhere."""
    kinds = tuple(SOLIDS)
    clouds = build_solids()[..., : 6 if normals else 3]
    splits: dict[str, Any] = {}
    start = 0
    for split, each in EACH.items():
        points = torch.cat([c[start : start + each] for c in clouds])
        labels = torch.arange(len(kinds)).repeat_interleave(each)
        order = torch.as_tensor(shuffled(len(labels), torch.Generator().manual_seed(text_seed(f"solids {split}"))))
        splits[split] = points[order], labels[order]
        start += each
    source = "built in: seeded parametric solids (MIT)"
    return Clouds.from_arrays("solids", **splits, classes=kinds, up=UP, source=source)


@lru_cache(maxsize=1)
def build_solids() -> Tensor:
    """Build the clouds of all splits, points and normals, float32 [kinds, n, 1024, 6]."""
    return torch.stack([_kind(name, sum(EACH.values())) for name in SOLIDS])


ABOUT = "built in: 3,528 generated clouds of 1,024 points, 12 classes"
for _name, _normals in (("solids", False), ("solids-normals", True)):
    _load = partial(load_solids, _normals)
    about = f"{ABOUT}, with normals" if _normals else ABOUT
    register_dataset(_name, "points", _load, license="MIT, made by this package", about=about)


def _kind(name: str, count: int) -> Tensor:
    """Generate clouds [count, POINTS, 6] of one kind."""
    profile, steps = SOLIDS[name]
    generator = torch.Generator().manual_seed(text_seed(f"solids {name}"))

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator) * (high - low) + low

    vertices, faces = revolve(profile(uniform(0, 1), uniform(0, 1)), steps)
    vertices = vertices * STRETCH ** uniform(-1, 1, 1, 3)
    points, normals = sample_surface(vertices, faces, math.ceil(POINTS / (1 - HIDDEN)), generator)
    tilt = turn_about(0, TILT * torch.randn(count, generator=generator))
    pose = turn_about(UP, uniform(0, 2 * math.pi)) @ tilt @ turn_about(UP, uniform(0, 2 * math.pi))
    points, normals = points @ pose.mT, normals @ pose.mT
    view = rotation(torch.randn(count, 4, generator=generator))[:, :, 0]
    points, normals = _cut(points, normals, view, uniform(0, HIDDEN))
    points = points + uniform(0, NOISE, 1, 1) * torch.randn(points.shape, generator=generator)
    points = points - points.mean(1, keepdim=True)
    points = points / points.norm(dim=-1).amax(1)[:, None, None]
    return torch.cat([points, normals], dim=-1)


def _cut(points: Tensor, normals: Tensor, view: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """The first POINTS points of each cloud outside the half space that contains a given share of its points."""
    height = (points @ view[..., None]).squeeze(-1)
    lowest = (share * height.shape[1]).long()[:, None]
    kept = height >= torch.from_numpy(np.sort(height.numpy())).gather(1, lowest)  # which torch.sort takes longer for
    kept &= kept.cumsum(1) <= POINTS
    return points[kept].view(len(points), POINTS, 3), normals[kept].view(len(points), POINTS, 3)


def revolve(profile: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Turn profiles [b, K, 2] of radius and height about the y axis: vertices [b, K * steps, 3], faces [F, 3].

    Faces look outward where the profile runs around the solid from below, on the side of positive radius, to above.
    """
    # Half a step ahead, so that the sides of a box of four steps are along x and z.
    angles = (torch.arange(steps) + 0.5) * (2 * math.pi / steps)
    radius, height = profile[..., None, 0], profile[..., None, 1]
    axes = [radius * angles.sin(), height.expand(-1, -1, steps), radius * angles.cos()]
    vertices = torch.stack(axes, dim=-1).flatten(1, 2)
    below, here = torch.meshgrid(torch.arange(profile.shape[1] - 1) * steps, torch.arange(steps), indexing="ij")
    following = (here + 1) % steps
    corners = [below + here, below + following, below + steps + following, below + steps + here]
    faces = torch.stack([torch.stack([corners[i] for i in face], dim=-1) for face in ((0, 1, 2), (0, 2, 3))])
    return vertices, faces.reshape(-1, 3)


def _profile(*corners: tuple[Tensor | float, Tensor | float]) -> Tensor:
    """Profiles [b, K, 2] through corners whose radius and height are numbers, or tensors [b]."""
    flat = torch.broadcast_tensors(*(torch.as_tensor(value, dtype=torch.float32) for c in corners for value in c))
    return torch.stack(flat, dim=-1).unflatten(-1, (-1, 2))


def _arc(first: float, last: float, radius: Tensor | float = 1.0, at: tuple = (0.0, 0.0), pieces: int = 16) -> list:
    """Corners on an arc about `at`, by angles in degrees over the horizontal."""
    angles = np.radians(np.linspace(first, last, pieces + 1)).tolist()
    return [(at[0] + radius * math.cos(angle), at[1] + radius * math.sin(angle)) for angle in angles]


def _height(u: Tensor) -> Tensor:
    return 0.4 + 0.8 * u


def _block(u: Tensor, _: Tensor) -> Tensor:
    return _profile((0, -_height(u)), (1, -_height(u)), (1, _height(u)), (0, _height(u)))


def _spike(u: Tensor, _: Tensor) -> Tensor:
    return _profile((0, -_height(u)), (1, -_height(u)), (0, _height(u)))


def _frustum(u: Tensor, v: Tensor) -> Tensor:
    return _profile((0, -_height(u)), (1, -_height(u)), (0.2 + 0.6 * v, _height(u)), (0, _height(u)))


def _capsule(u: Tensor, _: Tensor) -> Tensor:
    return _profile(*_arc(-90, 0, at=(0, -_height(u)), pieces=8), *_arc(0, 90, at=(0, _height(u)), pieces=8))


def _tube(u: Tensor, v: Tensor) -> Tensor:
    h, hole = _height(u), 0.2 + 0.65 * v
    return _profile((hole, -h), (1, -h), (1, h), (hole, h), (hole, -h))


# Of two random numbers in 0..1 for each solid its profile, and the number of steps it is turned in.
SOLIDS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], int]] = {
    "box": (_block, 4),
    "capsule": (
        lambda u, v: _profile(*_arc(-90, 0, at=(0, -_height(u)), pieces=8), *_arc(0, 90, at=(0, _height(u)), pieces=8)),
        ROUND,
    ),
    "cone": (_spike, ROUND),
    "cylinder": (_block, ROUND),
    "dome": (lambda u, v: _profile((0 * u, 0), *_arc(0, 90)), ROUND),
    "ellipsoid": (lambda u, v: _profile((0 * u, -1), *_arc(-90, 90)), ROUND),
    "frustum": (
        lambda u, v: _profile((0, -_height(u)), (1, -_height(u)), (0.2 + 0.6 * v, _height(u)), (0, _height(u))),
        ROUND,
    ),
    "octahedron": (lambda u, v: _profile((0, -_height(u)), (1, 0), (0, _height(u))), 4),
    "prism": (_block, 3),
    "pyramid": (_spike, 4),
    "torus": (lambda u, v: _profile(*_arc(-180, 180, 0.15 + 0.35 * u, at=(1, 0))), ROUND),
    "tube": (_tube, ROUND),
}

"""One shape from one file of any kind: a mesh or a cloud, as points of which the network gets some."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from comhe.errors import DataError

from .files import read_bounded, text_seed
from .meshes import Mesh, parse_obj, parse_off, parse_ply, parse_stl, triangles
from .scans import COLUMNS, MAX_BYTES, parse_npy, parse_npz, parse_pcd, rows_of
from .tables import parse_table

MESHES = {".off": parse_off, ".ply": parse_ply, ".obj": parse_obj, ".stl": parse_stl, ".npz": parse_npz}
ARRAYS = {".npy": parse_npy, ".pcd": parse_pcd}
TABLES = (".asc", ".csv", ".pts", ".txt", ".xyz")
SUFFIXES = (*MESHES, *ARRAYS, *TABLES)
FARTHEST = 1e15  # larger coordinates are refused: their squares come near the end of float32
POINTS = 2048  # that are drawn from a shape
AXES = {"x": 0, "y": 1, "z": 2}


def read_cloud(path: Path, count: int, name: str) -> np.ndarray:
    """Read ``count`` points of a shape, float32 [count, 3], centered and scaled to the unit sphere.

    Points are drawn uniformly by area from a mesh; from a cloud, a random subset, or all and repeats of some if there
    are fewer. The draws depend on ``name`` alone, so not on which other files are read.
    """
    points, faces = read_shape(path)
    generator = torch.Generator().manual_seed(text_seed(name))
    if len(faces):
        try:
            sampled = sample_surface(torch.as_tensor(points)[None], torch.as_tensor(faces), count, generator)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        points = sampled[0][0].numpy()
    else:
        check_clouds(points[None], path)
        points = points[random_rows(len(points), count, generator).numpy()]
    points = unit_sphere(points).astype(np.float32)
    check_clouds(points[None], path)
    return points


def read_shape(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the points of a shape, float64 [n, 3], and its triangles, int64 [m, 3], which a cloud does not have."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: not one of {', '.join(SUFFIXES)}")
    data = read_bounded(path, MAX_BYTES)
    if suffix in MESHES:
        mesh: Mesh = MESHES[suffix](data, path)
    elif suffix in ARRAYS:
        mesh = rows_of(ARRAYS[suffix](data, path), path), []
    else:
        mesh = parse_table(data, path, COLUMNS), []
    if is_numbered(mesh[0]):
        raise DataError(f"{path}: its first column numbers the rows; leave it out, or name the columns x, y and z")
    points = np.ascontiguousarray(mesh[0][:, :3], dtype=np.float64)
    if not len(points):
        raise DataError(f"{path}: has no points")
    finite = (np.abs(points) < FARTHEST).all(1)  # also false for NaN
    if not finite.all():
        reason = f"has a value that is not finite or beyond {FARTHEST:g}"
        raise DataError(f"{path}: point {np.argmin(finite)} (from 0) {reason}")
    return points, triangles(mesh[1], len(points), path)


def is_numbered(points: np.ndarray) -> bool:
    """Return whether the first of more than three columns counts the points from 0 or 1, so that it is not their x."""
    first = points[:, 0]
    return points.shape[1] > 3 and len(first) > 2 and first[0] in (0, 1) and bool((np.diff(first) == 1).all())


def random_rows(available: int, count: int, generator: torch.Generator) -> Tensor:
    """Draw ``count`` of the available rows: distinct ones, or all of them and repeats of some if there are fewer."""
    rounds = [torch.rand(available, generator=generator).argsort() for _ in range(-(-count // available))]
    return torch.cat(rounds)[:count]


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
    chosen += len(faces) * torch.arange(len(vertices), device=vertices.device)[:, None]
    a, b, c, normals = (each.flatten(0, 1)[chosen] for each in (a, b, c, cross))
    root, along = draw[1].sqrt()[..., None], draw[2][..., None]
    points = a + root * (1 - along) * (b - a) + root * along * (c - a)
    return points, normalize(normals, dim=-1)


def check_clouds(points: np.ndarray, name: object) -> None:
    """Raise a DataError that names the file unless ``points`` [n, P, 3 or more] are finite and each cloud is spread."""
    if points.shape[1] < 2:
        raise DataError(f"{name}: a cloud of {points.shape[1]} point; at least 2 are needed")
    finite = (np.abs(points) < FARTHEST).reshape(len(points), -1).all(1)  # also false for NaN
    spread = (points[:, :, :3] != points[:, :1, :3]).reshape(len(points), -1).any(1)
    infinite = f"a value that is not finite or beyond {FARTHEST:g}"
    for good, reason in ((finite, infinite), (spread, "all points at one position")):
        if not good.all():
            which = f"cloud {np.argmin(good)} (from 0) has" if len(points) > 1 else "the cloud has"
            raise DataError(f"{name}: {which} {reason}")


def unit_sphere(points: np.ndarray) -> np.ndarray:
    """Center ``points`` [P, 3 or more] and scale the largest distance to 1; further columns (normals) stay."""
    points = points.astype(np.float64)
    positions = points[:, :3]
    positions -= positions.mean(0)
    positions /= np.linalg.norm(positions, axis=1).max()
    return points


def turn(points: Tensor, source: str, target: str) -> Tensor:
    """Turn clouds [..., 3 or 6] by a quarter so that axis ``source`` becomes ``target``; their normals turn too.

    The target axis, which was to point somewhere else, becomes the negative source axis: z up to y up is
    (x, y, z) -> (x, z, -y), as programs of computer graphics do it.
    """
    if source == target:
        return points
    old, new = AXES[source], AXES[target]
    vectors = points.unflatten(-1, (-1, 3))
    columns = list(vectors.unbind(-1))
    columns[new], columns[old] = columns[old], -columns[new]
    return torch.stack(columns, -1).flatten(-2)

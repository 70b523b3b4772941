"""One shape from one file: meshes of ``.off`` and ``.ply``, clouds of ``.ply``, ``.npy``, ``.xyz`` and ``.txt``."""

from __future__ import annotations

import math
from io import BytesIO
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from comhe.datasets.io.files import parse_table, read_bounded
from comhe.datasets.sampling import text_seed
from comhe.errors import DataError

from .clouds import FARTHEST, check_clouds, unit_sphere
from .meshes import Polygons, parse_off, parse_ply, sample_surface

SUFFIXES = (".off", ".ply", ".npy", ".xyz", ".txt")
MAX_BYTES = 1 << 28
MAX_TRIANGLES = 1 << 22  # sampling takes some hundred bytes for each
COLUMNS = range(3, 16)  # of a cloud; those after the third (normals, colors) are not used


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
        rounds = [torch.rand(len(points), generator=generator).argsort() for _ in range(-(-count // len(points)))]
        points = points[torch.cat(rounds)[:count].numpy()]
    points = unit_sphere(points).astype(np.float32)
    check_clouds(points[None], path)
    return points


def read_shape(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the points of a shape, float64 [n, 3], and its triangles, int64 [m, 3], which a cloud does not have."""
    data, polygons = read_bounded(path, MAX_BYTES), Polygons()
    match path.suffix.lower():
        case ".off":
            points, polygons = parse_off(data, path)
        case ".ply":
            points, polygons = parse_ply(data, path)
        case ".npy":
            points = _parse_npy(data, path)
        case ".xyz" | ".txt":
            points = parse_table(data, path, COLUMNS)
        case _:
            raise DataError(f"{path}: not one of {', '.join(SUFFIXES)}")
    points = np.ascontiguousarray(points[:, :3], dtype=np.float64)
    if not len(points):
        raise DataError(f"{path}: has no points")
    finite = (np.abs(points) < FARTHEST).all(1)  # also false for NaN
    if not finite.all():
        raise DataError(
            f"{path}: point {finite.argmin()} (from 0) has a value that is not finite or beyond {FARTHEST:g}"
        )
    return points, _triangles(polygons, len(points), path)


def _triangles(polygons: Polygons, points: int, path: Path) -> np.ndarray:
    """Cut polygons into fans."""
    for i, polygon in enumerate(polygons):
        if len(polygon) < 3 or not 0 <= min(polygon) <= max(polygon) < points:
            shown = str(polygon)[:60]
            raise DataError(f"{path}: face {i} (from 0) is {shown}, not 3 or more of the vertices 0..{points - 1}")
    count = sum(len(polygon) - 2 for polygon in polygons)
    if count > MAX_TRIANGLES:
        raise DataError(f"{path}: {count:,} triangles, more than {MAX_TRIANGLES:,}; simplify the mesh")
    fans = ((p[0], p[i], p[i + 1]) for p in polygons for i in range(1, len(p) - 1))
    return np.fromiter(chain.from_iterable(fans), np.int64, 3 * count).reshape(-1, 3)


def _parse_npy(data: bytes, path: Path) -> np.ndarray:
    """Read an array [n, 3 or more] of floats; its size is checked against the file before numpy allocates it."""
    file = BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read_header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[version[0]]
        shape, _, kind = read_header(file)
        if kind.kind != "f" or len(shape) != 2 or shape[1] not in COLUMNS:
            raise DataError(f"{path}: an array of {str(kind)[:40]} {str(shape)[:40]}, not of floats [n, 3]")
        if math.prod(shape) * kind.itemsize != len(data) - file.tell():
            raise DataError(f"{path}: truncated or damaged: {len(data) - file.tell():,} bytes for {kind} {shape}")
        file.seek(0)
        return np.load(file, allow_pickle=False)
    except DataError:
        raise
    except Exception as error:  # numpy parses the header as a Python literal, and raises whatever the damage causes
        raise DataError(f"{path}: not a .npy file of floats [n, 3] ({type(error).__name__})") from error

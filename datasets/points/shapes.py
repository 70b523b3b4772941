"""One shape from one file: meshes of `.off` and `.ply`, clouds of `.ply`, `.npy`, `.xyz` and `.txt`."""

import re
from collections.abc import Iterator
from io import BytesIO
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch

from comhe.datasets.io.fetch import DataError, read_bounded

from .clouds import FARTHEST, check_clouds, seed_of, unit_sphere
from .number_text import MAX_LINE, parse_table
from .ply import parse_ply
from .surface import sample_surface

SUFFIXES = (".off", ".ply", ".npy", ".xyz", ".txt")
MAX_BYTES = 1 << 28
MAX_TRIANGLES = 1 << 22  # drawing points takes some hundred bytes for each
NPY_HEADER = re.compile(
    rb"\x93NUMPY(\x01\x00..|[\x02\x03]\x00..\x00\x00)\{'descr': '(?P<kind>[<>]f[248])', "
    rb"'fortran_order': (?P<fortran>True|False), 'shape': \((?P<rows>\d{1,12}), (?P<columns>\d{1,3})\), \} *\n",
    re.DOTALL,
)


def read_cloud(path: Path, count: int, name: str) -> np.ndarray:
    """`count` points of the shape in a file, float32 [count, 3], centred and scaled to the unit sphere.

    Of a mesh: drawn uniformly by area. Of a cloud: a random subset, or all and repeats of some where there are fewer.
    The draws depend on `name` alone, so not on which other files are read or when.

    Raises:
        DataError: one line that names the file and what is wrong with it, and the line in a text.
    """
    points, faces = read_shape(path)
    generator = torch.Generator().manual_seed(seed_of(name))
    if len(faces):
        try:
            sampled = sample_surface(torch.as_tensor(points)[None], torch.as_tensor(faces), count, generator)
        except ValueError as error:
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
    """Points float64 [n, 3] and the triangles among them int64 [m, 3]: none of a cloud.

    Polygons are cut into fans. Columns of a cloud beyond the third (normals, colours) are not used.

    Raises:
        DataError: as `read_cloud`.
    """
    data = read_bounded(path, MAX_BYTES)
    polygons = []
    match path.suffix.lower():
        case ".off":
            points, polygons = _parse_off(data, path)
        case ".ply":
            points, polygons = parse_ply(data, path)
        case ".npy":
            points = _parse_npy(data, path)
        case ".xyz" | ".txt":
            points = parse_table(data, path, tuple(range(3, 16)))
        case _:
            raise DataError(f"{path}: none of {', '.join(SUFFIXES)}")
    points = np.ascontiguousarray(points[:, :3], dtype=np.float64)
    if not len(points):
        raise DataError(f"{path}: has no points")
    if not (np.abs(points) < FARTHEST).all():
        row = (np.abs(points) < FARTHEST).all(1).argmin()
        raise DataError(f"{path}: point {row} (from 0) has a value that is not finite or beyond {FARTHEST:g}")
    return points, _triangles(polygons, len(points), path)


def _triangles(polygons: list[tuple[int, ...]], points: int, path: Path) -> np.ndarray:
    for i, polygon in enumerate(polygons):
        if len(polygon) < 3 or not 0 <= min(polygon) <= max(polygon) < points:
            raise DataError(
                f"{path}: face {i} (from 0) is {str(polygon)[:60]}, not 3 or more of the vertices 0..{points - 1}"
            )
    count = sum(len(polygon) - 2 for polygon in polygons)
    if count > MAX_TRIANGLES:
        raise DataError(f"{path}: {count:,} triangles, more than {MAX_TRIANGLES:,}; simplify the mesh")
    fans = ((p[0], p[i], p[i + 1]) for p in polygons for i in range(1, len(p) - 1))
    return np.fromiter(chain.from_iterable(fans), np.int64, 3 * count).reshape(-1, 3)


def _parse_off(data: bytes, path: Path) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Object File Format: `OFF`, the numbers of vertices, faces and edges, a line for each vertex and each face.

    In many files of ModelNet-40 the numbers follow `OFF` without a space or a new line.
    """
    lines = _off_lines(data, path)
    first = next(lines, (1, [""]))[1]
    if not first[0].startswith("OFF"):
        raise DataError(f"{path}: does not begin with 'OFF'")
    counts = [word for word in (first[0][3:], *first[1:]) if word] or next(lines, (2, []))[1]
    if not (2 <= len(counts) <= 3 and all(word.isdecimal() and len(word) < 10 for word in counts)):
        raise DataError(f"{path}: {' '.join(counts)[:40]!r} are no numbers of vertices, faces and edges")
    vertices, faces = int(counts[0]), int(counts[1])
    found, polygons = data.count(b"\n"), []
    if found + 1 >= vertices + faces:  # or there is no room for so many
        points, found = np.empty((vertices, 3)), 0
        for found, (number, words) in enumerate(islice(lines, vertices + faces), 1):
            try:
                if found <= vertices:
                    points[found - 1] = _exactly(3, words)
                else:
                    corners = int(words[0])  # a colour may follow
                    polygons.append(tuple(map(int, _exactly(corners, words[1 : 1 + corners]))))
            except ValueError:
                kind = "vertex" if found <= vertices else "face"
                raise DataError(f"{path}: line {number}: {' '.join(words)[:40]!r} is no {kind}") from None
    if found < vertices + faces:
        raise DataError(f"{path}: truncated: {found:,} lines for {vertices:,} vertices and {faces:,} faces")
    return points, polygons


def _off_lines(data: bytes, path: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines that have words, with their numbers, one at a time: all together would take 50 times the file."""
    for number, line in enumerate(BytesIO(data), 1):
        if len(line) > MAX_LINE:
            raise DataError(f"{path}: line {number}: {len(line):,} bytes, more than {MAX_LINE:,}")
        if words := line.decode("latin-1").partition("#")[0].split():
            yield number, words


def _exactly(count: int, words: list[str]) -> list[str]:
    if len(words) != count:
        raise ValueError
    return words


def _parse_npy(data: bytes, path: Path) -> np.ndarray:
    """The array of a `.npy` file. Its header is a Python expression, of which only the one form is read that numpy
    writes for an array of floats with two axes; nothing is evaluated."""
    header = NPY_HEADER.match(data)
    if header is None:
        raise DataError(f"{path}: does not begin as a .npy file of floats [n, 3]")
    kind, rows, columns = np.dtype(header["kind"].decode()), int(header["rows"]), int(header["columns"])
    body = data[header.end() :]
    if not 3 <= columns < 16 or len(body) != rows * columns * kind.itemsize:
        raise DataError(f"{path}: truncated or damaged: {len(body):,} bytes for {kind} [{rows:,}, {columns}]")
    order = "F" if header["fortran"] == b"True" else "C"
    return np.frombuffer(body, kind).reshape((rows, columns), order=order)

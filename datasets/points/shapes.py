"""One shape from one file: meshes of ``.off`` and ``.ply``, clouds of ``.ply``, ``.npy``, ``.xyz`` and ``.txt``."""

import math
import warnings
from collections.abc import Iterator
from io import BytesIO
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from plyfile import PlyData
from torch import Tensor
from torch.nn.functional import normalize

from comhe.datasets.io.files import parse_table, read_bounded
from comhe.datasets.sampling import text_seed
from comhe.errors import DataError

from .clouds import FARTHEST, check_clouds, unit_sphere

SUFFIXES = (".off", ".ply", ".npy", ".xyz", ".txt")
MAX_BYTES = 1 << 28
MAX_TRIANGLES = 1 << 22  # sampling takes some hundred bytes for each
COLUMNS = range(3, 16)  # of a cloud; those after the third (normals, colors) are not used
MAX_LINE = 1 << 16  # bytes of a line that is split into words
MAX_HEADER = 1 << 16
POLYGON = ("vertex_indices", "vertex_index")  # both names are common
Polygons = list[tuple[int, ...]]


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
        reason = f"has a value that is not finite or beyond {FARTHEST:g}"
        raise DataError(f"{path}: point {finite.argmin()} (from 0) {reason}")
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


def parse_off(data: bytes, path: Path) -> tuple[np.ndarray, Polygons]:
    """Parse ``OFF``, the numbers of vertices, faces and edges, a line for each vertex and each face.

    In many files of ModelNet-40 the numbers follow ``OFF`` without a space or a new line. Returns the vertices, float64
    [n, 3], and the polygons as tuples of vertex numbers.
    """
    lines = _lines(data, 0, path)
    first = next(lines, (1, [""]))[1]
    if not first[0].startswith("OFF"):
        raise DataError(f"{path}: does not begin with 'OFF'")
    counts = [word for word in (first[0][3:], *first[1:]) if word] or next(lines, (2, []))[1]
    if not (2 <= len(counts) <= 3 and all(word.isdecimal() and len(word) < 10 for word in counts)):
        raise DataError(f"{path}: {' '.join(counts)[:40]!r} are not numbers of vertices, faces and edges")
    vertices, faces = int(counts[0]), int(counts[1])
    found, polygons = data.count(b"\n"), Polygons()
    if found + 1 >= vertices + faces:  # before memory is allocated for them
        points, found = np.empty((vertices, 3)), 0
        for found, (number, words) in enumerate(islice(lines, vertices + faces), 1):
            try:
                if found <= vertices and len(words) == 3:
                    points[found - 1] = words
                elif found > vertices and 0 <= (corners := int(words[0])) < len(words):  # a color may follow
                    polygons.append(tuple(map(int, words[1 : 1 + corners])))
                else:
                    raise ValueError
            except ValueError:
                kind = "vertex" if found <= vertices else "face"
                raise DataError(f"{path}: line {number}: {' '.join(words)[:40]!r} is not a {kind}") from None
    if found < vertices + faces:
        raise DataError(f"{path}: truncated: {found:,} lines for {vertices:,} vertices and {faces:,} faces")
    return points, polygons


def parse_ply(data: bytes, path: Path) -> tuple[np.ndarray, Polygons]:
    """Parse a PLY file, text or binary, as :func:`parse_off`; without faces it is a cloud."""
    header, end, _ = data[:MAX_HEADER].partition(b"end_header")
    if not data.startswith(b"ply") or not end:
        raise DataError(f"{path}: does not begin with a PLY header, from 'ply' to 'end_header'")
    text = header.decode("ascii", "replace").replace("\ufffd", "?")  # comments may be in any encoding
    numbers = rows = 0  # counted before memory is allocated for them: each is at least a byte
    for line in text.splitlines():
        match line.split():
            case ["element", name, count] if count.isdecimal() and len(count) < 16:
                rows = int(count)
                if name == "face" and rows > MAX_TRIANGLES:
                    raise DataError(f"{path}: {rows:,} faces, more than {MAX_TRIANGLES:,}; simplify the mesh")
            case ["property", *_]:
                numbers += rows
    if numbers > len(data) - len(header):
        raise DataError(f"{path}: truncated: too few bytes for the {numbers:,} numbers of its header")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # numpy warns about an empty list
            elements = {element.name: element for element in PlyData.read(BytesIO(text.encode() + data[len(header) :]))}
        points = np.stack([elements["vertex"][axis].astype(np.float64) for axis in "xyz"], axis=1)
        if "face" not in elements:
            return points, []
        name = POLYGON[0] if POLYGON[0] in elements["face"] else POLYGON[1]
        lists = elements["face"][name]
        if any(polygon.dtype.kind not in "iu" for polygon in lists):
            raise ValueError("vertex numbers that are not integers")
        return points, [tuple(polygon.tolist()) for polygon in lists]
    except Exception as error:  # of the library: its own for the format, numpy's for the numbers
        said = " ".join(str(error).split())[:160]
        raise DataError(f"{path}: not a PLY file with vertices x, y, z and polygons ({said})") from error


def _lines(data: bytes, before: int, path: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines that have words, with their numbers, one at a time: all at once would take 50 times the file."""
    for number, line in enumerate(BytesIO(data), before + 1):
        if len(line) > MAX_LINE:
            raise DataError(f"{path}: line {number}: {len(line):,} bytes, more than {MAX_LINE:,}")
        if words := line.decode("latin-1").partition("#")[0].split():
            yield number, words


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

"""Meshes in text and binary files: OFF, PLY, OBJ and STL. Sizes are checked before memory is allocated for them.

A mesh is its vertices, float64 [n, 3], and its polygons: tuples of vertex numbers, or an int64 array [m, 3].
"""

import re
import warnings
from array import array
from collections.abc import Iterator
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from plyfile import PlyData

from comhe.errors import DataError

from .columns import find_axes
from .tables import plain_text

MAX_TRIANGLES = 1 << 22  # sampling takes some hundred bytes for each
MAX_VERTICES = 1 << 23  # of a format that does not say their number first
MAX_LINE = 1 << 16  # bytes of a line that is split into words
MAX_HEADER = 1 << 16
MAX_STREAM = 1 << 22  # bytes of an OFF file that is split into words at once
OFF = re.compile(r"(?P<kind>(?:ST)?C?N?)(?P<dimension>4?n?)(?:OFF|off)(?P<rest>.*)")
POLYGON = ("vertex_indices", "vertex_index")  # both names are common
STL_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
Polygons = list[tuple[int, ...]]
Mesh = tuple[np.ndarray, Polygons | np.ndarray]


def parse_off(data: bytes, path: Path) -> Mesh:
    """Parse ``OFF``, the numbers of vertices, faces and edges, a line for each vertex and each face.

    ``COFF``, ``NOFF``, ``CNOFF`` and ``STOFF`` have colors, normals or texture coordinates behind each vertex, and any
    dialect may have a color behind each face; these are not used. In many files of ModelNet-40 the numbers follow
    ``OFF`` without a space or a new line. Some programs write all numbers in one line.
    """
    data = plain_text(data)
    lines = _lines(data, path)
    first = next(lines, (1, [""]))[1]
    header = OFF.fullmatch(first[0])
    if not header:
        raise DataError(f"{path}: does not begin with 'OFF'")
    if header["dimension"]:
        raise DataError(f"{path}: {first[0][:10]} has vertices of other than 3 dimensions; save it as OFF")
    if "BINARY" in (word.upper() for word in first[1:2]):
        raise DataError(f"{path}: binary OFF is not read; save it as text, or as binary PLY or STL")
    counts = [word for word in (header["rest"], *first[1:]) if word] or next(lines, (2, []))[1]
    extra = counts[3:]
    if not (len(counts) >= 2 and all(word.isdecimal() and len(word) < 10 for word in counts[:3])):
        raise DataError(f"{path}: {' '.join(counts)[:40]!r} are not numbers of vertices, faces and edges")
    vertices, faces = int(counts[0]), int(counts[1])
    if 0 < len(extra) < 3:  # not even a vertex, as in a file of one line
        raise DataError(f"{path}: {' '.join(counts)[:40]!r} are not the three numbers of vertices, faces and edges")
    found, polygons = data.count(b"\n"), Polygons()
    if not header["kind"] and (extra or found + 1 < vertices + faces):
        return _off_stream(data, vertices, faces, path)
    if found + 1 < vertices + faces:  # before memory is allocated for them
        raise DataError(f"{path}: truncated: {found:,} lines for {vertices:,} vertices and {faces:,} faces")
    points, found = np.empty((vertices, 3)), 0
    for found, (number, words) in enumerate(islice(lines, vertices + faces), 1):
        try:
            if found <= vertices and len(words) >= 3:
                points[found - 1] = words[:3]
            elif found > vertices and 0 <= (corners := int(words[0])) < len(words):
                polygons.append(tuple(map(int, words[1 : 1 + corners])))
            else:
                raise ValueError
        except ValueError:
            kind = "vertex" if found <= vertices else "face"
            raise DataError(f"{path}: line {number}: {' '.join(words)[:40]!r} is not a {kind}") from None
    if found < vertices + faces:
        raise DataError(f"{path}: truncated: {found:,} lines for {vertices:,} vertices and {faces:,} faces")
    return points, polygons


def _off_stream(data: bytes, vertices: int, faces: int, path: Path) -> Mesh:
    """Parse an OFF file whose lines mean nothing: no colors, then, or they could not be told from the next vertex."""
    lines = data.count(b"\n")
    reason = f"truncated: {lines:,} lines for {vertices:,} vertices and {faces:,} faces"
    if len(data) > MAX_STREAM or 6 * vertices + 8 * faces > len(data) + 8:
        raise DataError(f"{path}: {reason}")
    text = re.sub(rb"#[^\n]*", b"", data).decode("latin-1")
    words = re.split("OFF|off", text, maxsplit=1)[1].split()[3:]  # there are three counts, or it would not be a stream
    try:
        points = np.array(words[: 3 * vertices], dtype=np.float64).reshape(vertices, 3)
        rest, polygons = iter(map(int, words[3 * vertices :])), Polygons()
        for _ in range(faces):
            corners = next(rest)
            polygons.append(tuple(islice(rest, corners)))
            if len(polygons[-1]) != corners:
                raise StopIteration
        if next(rest, None) is not None:
            raise ValueError
    except (ValueError, StopIteration):
        raise DataError(f"{path}: {reason}") from None
    return points, polygons


def parse_ply(data: bytes, path: Path) -> Mesh:
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
                if name.lower() == "face" and rows > MAX_TRIANGLES:
                    raise DataError(f"{path}: {rows:,} faces, more than {MAX_TRIANGLES:,}; simplify the mesh")
            case ["property", *_]:
                numbers += rows
    if numbers > len(data) - len(header):
        raise DataError(f"{path}: truncated: too few bytes for the {numbers:,} numbers of its header")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # numpy warns about an empty list
            read = PlyData.read(BytesIO(text.encode() + data[len(header) :]))
        elements = {element.name.lower(): element for element in read}
        vertex = elements["vertex"]
        names = [each.name for each in vertex.properties]
        if (axes := find_axes(names, path)) is None:
            raise ValueError(f"its vertices have {', '.join(names)}")
        points = np.stack([vertex[names[axis]].astype(np.float64) for axis in axes], axis=1)
        polygons = [tuple(polygon.tolist()) for polygon in _vertex_lists(elements.get("face"))]
        strips = _vertex_lists(elements.get("tristrips"))
        if sum(map(len, strips)) > MAX_TRIANGLES:
            raise ValueError(f"more than {MAX_TRIANGLES:,} triangles in its strips")
        return points, polygons + [triangle for strip in strips for triangle in _strip(strip.tolist())]
    except Exception as error:  # of the library: its own for the format, numpy's for the numbers
        said = " ".join(str(error).split())[:160]
        raise DataError(f"{path}: not a PLY file with vertices x, y, z and polygons ({said})") from error


def _vertex_lists(element: Any) -> list[np.ndarray]:
    """The vertex numbers of each face or strip of a PLY file; none where there is no such element."""
    if element is None:
        return []
    lists = [*element[POLYGON[0] if POLYGON[0] in element else POLYGON[1]]]
    if any(polygon.dtype.kind not in "iu" for polygon in lists):
        raise ValueError("vertex numbers that are not integers")
    return lists


def _strip(vertices: list[int]) -> Polygons:
    """The triangles of a strip: each vertex and the two before it, every second one turned; -1 begins another strip."""
    found, first = Polygons(), 0
    for i, vertex in enumerate(vertices):
        first = i + 1 if vertex == -1 else first
        if i >= first + 2:
            a, b, c = vertices[i - 2 : i + 1]
            found.append((b, a, c) if (i - first) % 2 else (a, b, c))
    return found


def parse_obj(data: bytes, path: Path) -> Mesh:
    """Parse the lines ``v x y z`` and ``f a b c ...`` of a Wavefront OBJ file; without faces it is a cloud.

    A corner is ``vertex/texture/normal``, of which the vertex is used: its number from 1, or back from the latest one.
    """
    values, polygons = array("d"), Polygons()
    for number, words in _lines(re.sub(rb"\\\r?\n", b" ", plain_text(data)), path):
        try:
            if words[0] == "v":
                values.extend(map(float, words[1:4]))
                if len(words) < 4:
                    raise ValueError
            elif words[0] == "f":
                corners = [int(word.partition("/")[0]) for word in words[1:]]
                polygons.append(tuple(c - 1 if c > 0 else len(values) // 3 + c if c else -1 for c in corners))
        except ValueError:
            kind = "vertex" if words[0] == "v" else "face"
            raise DataError(f"{path}: line {number}: {' '.join(words)[:40]!r} is not a {kind}") from None
        if len(values) > 3 * MAX_VERTICES or len(polygons) > MAX_TRIANGLES:
            raise DataError(f"{path}: more than {MAX_VERTICES:,} vertices or {MAX_TRIANGLES:,} faces; simplify it")
    return np.array(values, dtype=np.float64).reshape(-1, 3), polygons


def parse_stl(data: bytes, path: Path) -> Mesh:
    """Parse an STL file, binary or text: every triangle has three vertices of its own."""
    count = int.from_bytes(data[80:84], "little")
    head = plain_text(data[:84])
    is_text = head.lstrip()[:5].lower() == b"solid" and b"\0" not in head  # a binary header may begin so, too
    if len(data) >= 84 and (not is_text or len(data) >= 84 + STL_FACET.itemsize * count):  # of text, count is enormous
        if len(data) < 84 + STL_FACET.itemsize * count:
            raise DataError(f"{path}: truncated: {len(data):,} bytes for {count:,} triangles")
        if count > MAX_TRIANGLES:
            raise DataError(f"{path}: {count:,} triangles, more than {MAX_TRIANGLES:,}; simplify the mesh")
        corners = np.frombuffer(data, STL_FACET, count, 84)["corners"].astype(np.float64)
        return corners.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3)
    values, last = array("d"), ""
    for number, words in _lines(plain_text(data), path):
        last = words[0].lower()
        if number == 1 and last != "solid":
            break
        if last == "vertex":
            try:
                x, y, z = map(float, words[1:])
            except ValueError:
                raise DataError(f"{path}: line {number}: {' '.join(words)[:40]!r} is not a vertex") from None
            values.extend((x, y, z))
            if len(values) > 9 * MAX_TRIANGLES:
                raise DataError(f"{path}: more than {MAX_TRIANGLES:,} triangles; simplify the mesh")
    if last != "endsolid" or len(values) % 9:
        raise DataError(f"{path}: truncated, or not an STL file from 'solid' to 'endsolid'")
    return np.array(values).reshape(-1, 3), np.arange(len(values) // 3).reshape(-1, 3)


def triangles(polygons: Polygons | np.ndarray, points: int, path: Path) -> np.ndarray:
    """Check the polygons of a mesh of so many ``points``, and cut them into fans, int64 [m, 3]."""
    if isinstance(polygons, np.ndarray):
        return polygons
    for i, polygon in enumerate(polygons):
        if len(polygon) < 3 or not 0 <= min(polygon) <= max(polygon) < points:
            shown = str(polygon)[:60]
            raise DataError(f"{path}: face {i} (from 0) is {shown}, not 3 or more of the vertices 0..{points - 1}")
    count = sum(len(polygon) - 2 for polygon in polygons)
    if count > MAX_TRIANGLES:
        raise DataError(f"{path}: {count:,} triangles, more than {MAX_TRIANGLES:,}; simplify the mesh")
    fans = ((p[0], p[i], p[i + 1]) for p in polygons for i in range(1, len(p) - 1))
    return np.fromiter(chain.from_iterable(fans), np.int64, 3 * count).reshape(-1, 3)


def _lines(data: bytes, path: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines that have words, with their numbers, one at a time: all at once would take 50 times the file."""
    for number, line in enumerate(BytesIO(data), 1):
        if len(line) > MAX_LINE:
            raise DataError(f"{path}: line {number}: {len(line):,} bytes, more than {MAX_LINE:,}")
        if words := line.decode("latin-1").partition("#")[0].split():
            yield number, words

"""Stanford PLY files: vertices and polygons, from text or from binary of either byte order."""

import struct
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from comhe.datasets.io.fetch import DataError

from .number_text import MAX_LINE, parse_table

FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
TYPES = {
    "char": "b", "uchar": "B", "short": "h", "ushort": "H", "int": "i", "uint": "I", "float": "f", "double": "d",
    "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "float32": "f", "float64": "d",
}  # fmt: skip
WHOLE = "bBhHiI"
POLYGON = ("vertex_indices", "vertex_index")  # both names are common
MAX_HEADER = 1 << 16


@dataclass(frozen=True)
class Property:
    """A number of a row; a list of numbers where `length` has the type of the list's length."""

    name: str
    kind: str
    length: str = ""


@dataclass(frozen=True)
class Element:
    name: str
    rows: int
    properties: tuple[Property, ...] = ()


def parse_ply(data: bytes, path: Path) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Vertices float64 [n, 3], and the polygons as tuples of vertex numbers: none where the file has none.

    Other elements and properties are passed over.

    Raises:
        DataError: a header, a type or a row that PLY does not have, or a file that ends before its last row.
    """
    order, elements, at, header_lines = _header(data, path)
    source = _Text(data[at:], header_lines, path) if order == "" else _Binary(data, at, order, path)
    vertices, polygons = None, []
    for element in elements:
        if element.name == "vertex" and vertices is None:
            names = [p.name for p in element.properties]
            if not {"x", "y", "z"} <= set(names) or any(p.length for p in element.properties):
                raise DataError(f"{path}: element vertex has no plain x, y and z, but {', '.join(names)[:60]}")
            vertices = source.table(element)[:, [names.index(axis) for axis in "xyz"]]
        else:
            lists = source.lists(element)
            if element.name == "face":
                polygons = lists
        if vertices is not None and polygons:
            break  # what follows is not needed
    if vertices is None:
        raise DataError(f"{path}: has no element vertex")
    return vertices, polygons


def _header(data: bytes, path: Path) -> tuple[str, list[Element], int, int]:
    """Byte order, elements, where the rows begin, and how many lines the header has."""
    end = data.find(b"end_header", 0, MAX_HEADER)
    at = data.find(b"\n", end) + 1
    if not data.startswith(b"ply") or end < 0 or not at:
        raise DataError(f"{path}: no PLY header, from 'ply' to 'end_header', at its beginning")
    order, elements = None, []
    lines = data[:at].decode("latin-1").split("\n")[:-1]
    for number, line in enumerate(lines[1:-1], 2):
        match line.split():
            case ["format", name, "1.0"] if name in FORMATS and order is None:
                order = FORMATS[name]
            case ["element", name, rows] if rows.isdecimal() and len(rows) < 12:
                elements.append(Element(name, int(rows)))
            case ["property", kind, name] if elements and kind in TYPES:
                elements[-1] = _with(elements[-1], Property(name, TYPES[kind]))
            case ["property", "list", length, kind, name] if elements and kind in TYPES and length in TYPES:
                elements[-1] = _with(elements[-1], Property(name, TYPES[kind], TYPES[length]))
            case [] | ["comment" | "obj_info", *_]:
                continue
            case _:
                raise DataError(f"{path}: line {number}: {line.strip()[:60]!r} has no place in a PLY header")
        for p in elements[-1].properties if elements else ():
            if (p.length and p.length not in WHOLE) or (p.name in POLYGON and not (p.length and p.kind in WHOLE)):
                raise DataError(f"{path}: line {number}: a list's length or a polygon's numbers are of no whole type")
    if order is None or not all(element.properties for element in elements):
        raise DataError(f"{path}: its header names no format, or an element without properties")
    return order, elements, at, len(lines)


def _with(element: Element, last: Property) -> Element:
    return replace(element, properties=(*element.properties, last))


class _Text:
    def __init__(self, data: bytes, header_lines: int, path: Path) -> None:
        self.rows, self.at, self.header_lines, self.path = data.split(b"\n"), 0, header_lines, path

    def take(self, element: Element) -> list[bytes]:
        rows = self.rows[self.at : self.at + element.rows]
        if len(rows) < element.rows or (rows and not rows[-1].strip()):
            raise DataError(f"{self.path}: truncated: fewer than the {element.rows:,} lines of element {element.name}")
        self.at += element.rows
        return rows

    def table(self, element: Element) -> np.ndarray:
        if not element.rows:
            return np.empty((0, len(element.properties)))
        first = self.header_lines + self.at + 1
        rows = parse_table(b"\n".join(self.take(element)), self.path, (len(element.properties),), first)
        if len(rows) < element.rows:
            raise DataError(f"{self.path}: a line of element {element.name} is empty")
        return rows

    def lists(self, element: Element) -> list[tuple[int, ...]]:
        first = self.header_lines + self.at + 1
        polygons = []
        for number, row in enumerate(self.take(element), first):
            words, at = row[:MAX_LINE].split(), 0  # cut off, a longer one lacks numbers
            try:
                for p in element.properties:
                    count = int(words[at]) if p.length else 1
                    at += bool(p.length)
                    if not 0 <= count <= len(words) - at:
                        raise ValueError
                    if p.name in POLYGON:
                        polygons.append(tuple(map(int, words[at : at + count])))
                    at += count
            except (ValueError, IndexError):
                shown = row[:40].decode("latin-1")
                raise DataError(f"{self.path}: line {number}: {shown!r} is no {element.name}") from None
        return polygons


class _Binary:
    def __init__(self, data: bytes, at: int, order: str, path: Path) -> None:
        self.data, self.at, self.order, self.path = data, at, order, path

    def table(self, element: Element) -> np.ndarray:
        kind = np.dtype([(str(i), self.order + p.kind) for i, p in enumerate(element.properties)])
        self.check(element, kind.itemsize)
        rows = np.frombuffer(self.data, kind, element.rows, self.at)
        self.at += rows.nbytes
        return np.stack([rows[name].astype(np.float64) for name in kind.names], axis=1)

    def lists(self, element: Element) -> list[tuple[int, ...]]:
        self.check(element, sum(struct.calcsize(p.length or p.kind) for p in element.properties))
        polygons = []
        try:
            for _ in range(element.rows):
                for p in element.properties:
                    count = self.number(p.length)[0] if p.length else 1
                    values = self.number(f"{count}{p.kind}")
                    if p.name in POLYGON:
                        polygons.append(values)
        except struct.error:
            raise DataError(f"{self.path}: truncated or damaged in element {element.name}") from None
        return polygons

    def number(self, layout: str) -> tuple:
        values = struct.unpack_from(self.order + layout, self.data, self.at)
        self.at += struct.calcsize(self.order + layout)
        return values

    def check(self, element: Element, least: int) -> None:
        left = len(self.data) - self.at
        if element.rows * least > left:
            raise DataError(f"{self.path}: truncated: {left:,} bytes for {element.rows:,} rows of {element.name}")

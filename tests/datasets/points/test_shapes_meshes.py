"""Meshes of OFF and PLY files are read right."""

import struct

import numpy as np
import pytest

from comhe.datasets.points.shapes import read_shape

# A unit square in two triangles, and a quadrilateral above it.
VERTICES = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0.5], [1, 0, 0.5], [1, 1, 0.5], [0, 1, 0.5]])


POLYGONS = [(0, 1, 2), (0, 2, 3), (4, 5, 6, 7)]


TRIANGLES = [[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]]


def off(vertices=VERTICES, polygons=POLYGONS, head="OFF\n{} {} 0\n") -> bytes:
    rows = [" ".join(map(str, v)) for v in vertices] + [" ".join(map(str, (len(p), *p))) for p in polygons]
    return (head.format(len(vertices), len(polygons)) + "\n".join(rows) + "\n").encode()


def ply(order="", kind="float", length="uchar", index="int", extra=True, polygons=POLYGONS) -> bytes:
    """Text, or binary; with more properties and elements than needed if ``extra``."""
    name = {"": "ascii", "<": "binary_little_endian", ">": "binary_big_endian"}[order]
    header = f"ply\nformat {name} 1.0\ncomment here\nelement vertex {len(VERTICES)}\ncomment there\n"
    header += "property uchar red\n" * extra + "".join(f"property {kind} {axis}\n" for axis in "xyz")
    header += "element material 2\nproperty uchar id\nproperty list uchar int more\n" * extra
    header += f"element face {len(polygons)}\nproperty list {length} {index} vertex_indices\n"
    header += "property float q\nelement edge 1\nproperty int a\nproperty list uchar int more\n" * extra
    header += "end_header\n"
    codes = {"float": "f", "double": "d", "uchar": "B", "int": "i", "uint": "I", "short": "h", "char": "b"}

    def row(values, layout):
        return (" ".join(map(str, values)) + "\n").encode() if order == "" else struct.pack(order + layout, *values)

    body = b"".join(row([7] * extra + list(v), "B" * extra + 3 * codes[kind]) for v in VERTICES.tolist())
    body += (row([7, 2, 5, 6], "BB2i") + row([8, 0], "BB")) * extra
    for p in polygons:
        layout = codes[length] + len(p) * codes[index]
        body += row([len(p), *p] + [0.5] * extra, layout + "f" * extra)
    body += row([5, 2, 1, 2], "iB2i") * extra
    return header.encode() + body


MESHES = {
    "a.off": off(),
    "glued.off": off(head="OFF{} {} 0\n"),
    "one-line.off": off(head="OFF {} {} 0\n"),
    "no-edges.off": off(head="OFF\n{} {}\n"),
    "comments.OFF": b"# a mesh\n" + off().replace(b"\n", b"  # here\n\n"),
    "windows.off": off().replace(b"\n", b"\r\n"),
    "colors.off": off().replace(b"3 0 1 2\n", b"3 0 1 2 255 0 0\n"),
    "text.ply": ply(),
    "windows.ply": ply().replace(b"\n", b"\r\n"),
    "plain.ply": ply(extra=False),
    "little.ply": ply("<"),
    "big.ply": ply(">"),
    "double.ply": ply("<", "double", "int", "uint"),
    "short.ply": ply("<", "float", "char", "short", extra=False),
    "vertex_index.ply": ply("<").replace(b"vertex_indices", b"vertex_index"),
}


@pytest.mark.parametrize("name", MESHES)
def test_meshes(tmp_path, name):
    (tmp_path / name).write_bytes(MESHES[name])
    points, faces = read_shape(tmp_path / name)
    assert points.dtype == np.float64
    assert (points == VERTICES).all()
    assert faces.tolist() == TRIANGLES

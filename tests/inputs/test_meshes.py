"""Meshes of OFF, PLY, OBJ and STL files are read right."""

import struct

import numpy as np
import pytest

from comhe.errors import DataError
from comhe.inputs.shapes import read_shape

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


def stl(head: bytes = b"") -> bytes:
    corners = VERTICES[TRIANGLES]
    return (
        head.ljust(80)
        + struct.pack("<I", len(corners))
        + b"".join(struct.pack("<12fH", 0, 0, 1, *c.ravel(), 0) for c in corners)
    )


def stl_text() -> bytes:
    facets = "".join(
        "facet normal 0 0 1\nouter loop\n"
        + "".join("vertex {:g} {:g} {:g}\n".format(*v) for v in c)
        + "endloop\nendfacet\n"
        for c in VERTICES[TRIANGLES]
    )
    return f"solid a square\n{facets}endsolid a square\n".encode()


def obj(corner: str = "%d", eol: str = "\n") -> bytes:
    lines = [
        "# a mesh",
        "mtllib a.mtl",
        "o square",
        *("v {:g} {:g} {:g}".format(*v) for v in VERTICES),
        "vn 0 0 1",
        "vt 0 0",
    ]
    lines += ["f " + " ".join(corner % (i + 1) for i in p) for p in POLYGONS]
    return (eol.join(lines) + eol).encode()


def colored(head: str, columns: str) -> bytes:
    """Every vertex has more columns, and every face a color."""
    lines = off(head=head).decode().splitlines()
    start = len(lines) - len(VERTICES) - len(POLYGONS)
    rows = [row + (f" {columns}" if i < len(VERTICES) else " 0.5 0 0.25 1") for i, row in enumerate(lines[start:])]
    return "\n".join([*lines[:start], *rows]).encode()


MESHES = {
    "a.off": off(),
    "glued.off": off(head="OFF{} {} 0\n"),
    "one-line.off": off(head="OFF {} {} 0\n"),
    "no-edges.off": off(head="OFF\n{} {}\n"),
    "comments.OFF": b"# a mesh\n" + off().replace(b"\n", b"  # here\n\n"),
    "windows.off": off().replace(b"\n", b"\r\n"),
    "colors.off": off().replace(b"3 0 1 2\n", b"3 0 1 2 255 0 0\n"),
    "COFF.off": colored("COFF\n{} {} 0\n", "255 0 0 255"),
    "COFF-glued.off": colored("COFF{} {} 0\n", "1.0 0 0.5 1"),
    "NOFF.off": colored("NOFF\n{} {}\n", "0 0 1"),
    "CNOFF.off": colored("CNOFF {} {} 0\n", "0 0 1 255 0 0 255"),
    "STOFF.off": colored("STOFF\n{} {} 0\n", "0.5 0.5"),
    "STCNOFF.off": colored("STCNOFF\n{} {} 0\n", "0 0 1 1 0 0 1 0.5 0.5"),
    "undeclared.off": colored("OFF\n{} {} 0\n", "255 0 0"),
    "lower.off": off(head="off\n{} {} 0\n"),
    "marked.off": b"\xef\xbb\xbf" + off(),
    "mac.off": off().replace(b"\n", b"\r"),
    "stream.off": off().replace(b"\n", b" "),
    "stream-glued.off": off(head="OFF{} {} 0\n").replace(b"\n", b" "),
    "stream-two.off": off().replace(b"\n", b" ").replace(b" 0 0.0 0.0", b" 0\n0.0 0.0"),
    "a.obj": obj(),
    "corners.obj": obj("%d/1/1"),
    "normals.OBJ": obj("%d//1", "\r\n"),
    "textures.obj": obj("%d/1"),
    "weights.obj": obj().replace(b" 0\n", b" 0 1.0\n").replace(b"vn 0 0 1", b"vp 1"),
    "continued.obj": obj().replace(b"f 1 2", b"f 1 \\\n2"),
    "relative.obj": obj().replace(b"f 5 6 7 8", b"f -4 -3 -2 -1"),
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


SOUPS = {
    "a.stl": stl(),
    "solid.stl": stl(b"solid of a program that does not know better"),
    "trailing.stl": stl(b"COLOR=") + bytes(7),
    "text.stl": stl_text(),
    "windows.STL": stl_text().replace(b"\n", b"\r\n  "),
    "marked.stl": b"\xef\xbb\xbf" + stl_text(),
    "utf16.stl": stl_text().decode().encode("utf-16"),
    "upper.stl": stl_text().upper(),
}


@pytest.mark.parametrize("name", SOUPS)
def test_triangles_with_vertices_of_their_own(tmp_path, name):
    (tmp_path / name).write_bytes(SOUPS[name])
    points, faces = read_shape(tmp_path / name)
    assert (points[faces] == VERTICES[TRIANGLES]).all()


@pytest.mark.parametrize("after", [b"", b"made by hand", bytes(50)])
def test_binary_stl_may_begin_as_text_and_end_later(tmp_path, after):
    path = tmp_path / "a.stl"
    path.write_bytes(stl(b"solid of a program") + after)
    points, faces = read_shape(path)
    assert np.array_equal(points[faces], VERTICES[TRIANGLES])


STRIPS = (0, 1, 3, 2, -1, 4, 5, 7), (5, 6, 7)


def test_strips_of_ply_are_triangles(tmp_path):
    """As the Stanford repository has them; every second triangle of a strip is turned, so that all face one way."""
    path = tmp_path / "a.ply"
    for order in ("", "<"):
        path.write_bytes(ply(order, polygons=STRIPS).replace(b"element face", b"element tristrips"))
        points, faces = read_shape(path)
        assert faces.tolist() == [[0, 1, 3], [3, 1, 2], [4, 5, 7], [5, 6, 7]]
        a, b, c = points[faces].swapaxes(0, 1)
        assert (np.cross(b - a, c - a) == [0, 0, 1]).all()
    path.write_bytes(ply(polygons=[(0, 1, 2, 9)]).replace(b"element face", b"element tristrips"))
    with pytest.raises(
        DataError, match=r"a\.ply: face 1 \(from 0\) is \(2, 1, 9\), not 3 or more of the vertices 0\.\.7"
    ):
        read_shape(path)


def test_axes_of_ply_in_capitals(tmp_path):
    path = tmp_path / "a.ply"
    for axis in "xyz":
        path.write_bytes(ply().replace(b"float " + axis.encode(), b"float " + axis.upper().encode()))
        assert np.array_equal(read_shape(path)[0], VERTICES)


def test_off_with_four_numbers_in_its_head(tmp_path):
    path = tmp_path / "a.off"
    path.write_bytes(off(head="OFF\n{} {} 0 1\n"))
    with pytest.raises(DataError, match="'8 3 0 1' are not the three numbers of vertices, faces and edges"):
        read_shape(path)

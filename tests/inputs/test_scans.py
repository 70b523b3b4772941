"""Clouds from files of all kinds: read right, or one clear line."""

import io
import struct
import zipfile

import numpy as np
import pytest

from comhe.datasets import DataError
from comhe.inputs.shapes import read_shape

from .test_meshes import MESHES, SOUPS, TRIANGLES, VERTICES, off, ply, stl, stl_text


def npy(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def read(tmp_path, name, data):
    path = tmp_path / name
    path.unlink(missing_ok=True)  # to write over a file takes five times as long
    path.write_bytes(data)
    return read_shape(path)


def npz(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


HEADER = """# .PCD v0.7
VERSION 0.7
FIELDS x y z _ rgb
SIZE 4 4 4 1 4
TYPE F F F U U
COUNT 1 1 1 5 1
WIDTH 8
HEIGHT 1
VIEWPOINT 0 0 0 1 0 0 0
POINTS 8
DATA {}
"""


def pcd(kind: str, packed: bytes = b"", points=VERTICES) -> bytes:
    """The points, with padding and a color; ``packed`` replaces what is compressed."""
    if kind == "ascii":
        body = b"".join(b"%g %g %g 0 0 0 0 0 4294967295\n" % tuple(v) for v in points)
    elif kind == "binary":
        body = b"".join(struct.pack("<3f5xI", *v, 7) for v in points)
    else:
        fields = np.float32(points).T.tobytes() + bytes(40) + np.full(8, 7, np.uint32).tobytes()
        packed = packed or lzf(fields)
        body = struct.pack("<II", len(packed), len(fields)) + packed
    return HEADER.format(kind).encode() + body


def lzf(data: bytes) -> bytes:
    """Literal runs, and a copy of what was written for every run of equal bytes."""
    result, i = b"", 0
    while i < len(data):
        run = len(data[i:]) - len(data[i:].lstrip(data[i : i + 1]))
        if i and data[i] == data[i - 1] and run > 2:
            length = min(run, 264)
            head = bytes([(length - 2) << 5]) if length < 9 else bytes([7 << 5, length - 9])
            result, i = result + head + b"\x00", i + length
        else:
            result, i = result + b"\x00" + data[i : i + 1], i + 1
    return result


def fields(names: str, *kinds: str) -> np.ndarray:
    """The points in an array of named fields, as readers of PCD, LAS and PLY files give them."""
    array = np.full(len(VERTICES), 7, [*zip(names.split(), kinds, strict=True)])
    for axis, column in zip("xyz", VERTICES.T, strict=True):
        array[next(name for name in array.dtype.names if name.lower() == axis)] = column
    return array


def rows(row: str, head: str = "", end: str = "\n") -> bytes:
    return (head + end.join(row % tuple(v) for v in VERTICES) + end).encode()


CLOUDS = {
    "a.npy": npy(VERTICES),
    "single.npy": npy(VERTICES.astype(np.float32)),
    "big.npy": npy(VERTICES.astype(">f4")),
    "fortran.npy": npy(np.asfortranarray(VERTICES)),
    "normals.npy": npy(np.concatenate([VERTICES, VERTICES], axis=1)),
    "a.xyz": b"".join(b"%f %f %f 1 2 3\n" % tuple(v) for v in VERTICES),
    "a.txt": b"".join(b"%f,%f,%f\n" % tuple(v) for v in VERTICES),
    "text.ply": ply(polygons=[]),
    "little.ply": ply("<", polygons=[], extra=False),
    "no-faces.off": off(polygons=[]),
    "no-faces.obj": rows("v %g %g %g"),
    "first.npy": npy(VERTICES.T),
    "batch.npy": npy(VERTICES[None]),
    "normals-first.npy": npy(np.concatenate([VERTICES, VERTICES], axis=1).T),
    "integers.npy": npy(np.int64(2 * VERTICES)),
    "fields.npy": npy(fields("x y z r g b", *["f4"] * 3, *["u1"] * 3)),
    "mixed.npy": npy(fields("rgb Z Y X", "u4", "f8", ">f4", "f4")[None]),
    "fields.npz": npz(points=fields("x y z intensity", *["f8"] * 4)),
    "a.npz": npz(points=VERTICES),
    "unnamed.npz": npz(arr_0=np.float32(VERTICES)),
    "normals.npz": npz(normals=VERTICES + 1, points=VERTICES),
    "pointcept.npz": npz(color=VERTICES + 1, coord=VERTICES),
    "capitals.npz": npz(Points=VERTICES, N=VERTICES + 1),
    "axes.npz": npz(Z=VERTICES[:, 2], X=VERTICES[:, 0], Y=VERTICES[:, 1:2], intensity=VERTICES),
    "a.pcd": pcd("ascii"),
    "old.pcd": pcd("ascii").replace(b"FIELDS", b"COLUMNS"),
    "b.pcd": pcd("binary"),
    "c.pcd": pcd("binary_compressed"),
    "count.pts": rows("%g %g %g 17 0 0 255", "8\n"),
    "a.pts": rows("%g %g %g"),
    "comma.csv": rows("%g,%g,%g", "x,y,z\n"),
    "quoted.csv": rows('"%g","%g","%g"', '"X","Y","Z"\n', "\r\n"),
    "index.csv": rows("5,%g,%g,%g", "id,x,y,z\n"),
    "decimal.csv": rows("%g;%g;%g").replace(b".", b","),
    "semicolon.txt": rows("%g; %g; %g;"),
    "label.txt": rows("%g %g %g chair"),
    "cloudcompare.asc": rows("%g %g %g 9 9 9", "//X Y Z R G B\n"),
    "words.xyz": rows("%g\t%g\t%g", "a scan of a square\n\n"),
    "percent.txt": rows("%g %g %g", "% a comment\n"),
    "mac.xyz": rows("%g %g %g", end="\r"),
    "marked.xyz": b"\xef\xbb\xbf" + rows("%g %g %g"),
    "unicode.txt": rows("%g %g %g").decode().encode("utf-16"),
}


@pytest.mark.parametrize("name", CLOUDS)
def test_clouds(tmp_path, name):
    points, faces = read(tmp_path, name, CLOUDS[name])
    assert (points == VERTICES * (2 if name == "integers.npy" else 1)).all()
    assert faces.shape == (0, 3)


MESH = {"quads": [[0, 1, 2, 3], [4, 5, 6, 7]], "triangles": TRIANGLES}


@pytest.mark.parametrize("names", [("vertices", "faces"), ("vertices", "triangles"), ("V", "F"), ("points", "faces")])
@pytest.mark.parametrize("polygons", MESH.values())
def test_vertices_and_faces_in_an_archive_are_a_mesh(tmp_path, names, polygons):
    arrays = dict(zip(names, (VERTICES, np.uint32(polygons)), strict=True))
    points, faces = read(tmp_path, "a.npz", npz(**arrays, normals=VERTICES))
    assert (points == VERTICES).all()
    assert faces.tolist() == TRIANGLES
    if names[0] == "vertices":  # the cloud has been drawn from the mesh
        points, faces = read(tmp_path, "b.npz", npz(**arrays, points=VERTICES + 1))
        assert (points == VERTICES + 1).all()
        assert faces.shape == (0, 3)


@pytest.mark.parametrize("form", [np.array, lambda faces: np.array(faces).T, lambda faces: np.array(faces, float)])
def test_faces_may_be_columns_or_whole_floats(tmp_path, form):
    """As PyTorch Geometric and MATLAB have them."""
    faces = [(0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 6)]
    for names in (("pos", "face"), ("vertices", "faces")):
        _, found = read(tmp_path, "a.npz", npz(**{names[0]: VERTICES, names[1]: form(faces)}))
        assert found.tolist() == [list(face) for face in faces]


@pytest.mark.parametrize("other", [VERTICES + 0.5, [0, 1, 2, 3], np.zeros((0, 3))])
def test_a_cloud_may_have_something_else_than_faces(tmp_path, other):
    points, faces = read(tmp_path, "a.npz", npz(points=VERTICES, f=other))
    assert (points == VERTICES).all()
    assert faces.shape == (0, 3)


def test_points_that_a_scanner_could_not_measure_are_dropped(tmp_path):
    for kind in ("ascii", "binary", "binary_compressed"):
        points, _ = read(tmp_path, "a.pcd", pcd(kind, points=np.where(np.arange(8)[:, None] % 2, VERTICES, np.nan)))
        assert (points == VERTICES[1::2]).all()


def test_what_an_archive_only_claims_is_refused(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("points.npy", npy(np.zeros((1 << 20, 3))))
    claim = struct.pack("<I", 24 * (1 << 20) + 128)
    assert file.getvalue().count(claim) == 2
    with pytest.raises(DataError, match=r"a\.npz: 'points' claims 4,294,967,288 bytes, more than 268,435,456"):
        read(tmp_path, "a.npz", file.getvalue().replace(claim, struct.pack("<I", (1 << 32) - 8)))


LISTS = ply("<", length="int", extra=False)
BAD = {
    "empty.off": (b"", "an empty file; download or copy it again"),
    "other.off": (b"SKEL\n1 0 0\n", "does not begin with 'OFF'"),
    "colors-cut.off": (b"COFF\n1 0 0\n", "truncated: 0 lines for 1 vertices"),
    "four.off": (off().replace(b"OFF", b"4OFF"), "4OFF has vertices of other than 3 dimensions"),
    "many.off": (off().replace(b"OFF", b"nOFF\n3"), "nOFF has vertices of other than 3 dimensions"),
    "binary.off": (b"OFF BINARY\n" + bytes(40), "binary OFF is not read"),
    "stream.off": (off().replace(b"\n", b" ")[:-4], "truncated: 0 lines"),
    "more.off": (off().replace(b"\n", b" ") + b" 3 0 1 2", "truncated: 0 lines"),
    "one-word.obj": (b"v 1 2\n", "line 1: 'v 1 2' is not a vertex"),
    "word.obj": (b"v 1 2 3\nf 1 a 1\n", "line 2: 'f 1 a 1' is not a face"),
    "zero.obj": (b"v 1 2 3\nf 1 0 1\n", r"face 0 \(from 0\) is \(0, -1, 0\)"),
    "before.obj": (b"v 1 2 3\nf -2 1 1\n", r"face 0 \(from 0\) is \(-1, 0, 0\)"),
    "none.obj": (b"# nothing\n", "has no points"),
    "empty.stl": (b"", "an empty file; download or copy it again"),
    "cut.stl": (stl()[:-3], "truncated: 281 bytes for 4 triangles"),
    "huge.stl": (stl().replace(struct.pack("<I", 4), b"\xff" * 4), "truncated: 284 bytes for 4,294,967,295 triangles"),
    "cut-text.stl": (stl_text()[:-20], "truncated, or not an STL file"),
    "word.stl": (stl_text().replace(b"vertex 1 1 0", b"vertex 1 x 0"), "line 6: 'vertex 1 x 0' is not a vertex"),
    "empty.pcd": (b"", "an empty file; download or copy it again"),
    "other.pcd": (pcd("ascii").replace(b"DATA ascii", b"DATA zip"), "does not begin with a PCD header"),
    "no-z.pcd": (pcd("binary").replace(b"FIELDS x y z", b"FIELDS x y w"), r"not a PCD file with fields x, y and z"),
    "sizes.pcd": (pcd("binary").replace(b"SIZE 4 4", b"SIZE 4"), r"not a PCD file with fields x, y and z"),
    "cut.pcd": (pcd("ascii", points=VERTICES[:7]), "truncated: 7 points, not 8"),
    "cut-binary.pcd": (pcd("binary")[:-1], "truncated: 167 bytes for 8 points of 21"),
    "huge.pcd": (
        pcd("binary").replace(b"POINTS 8", b"POINTS 99999999999"),
        "99,999,999,999 points of 21 bytes, more than",
    ),
    "cut-compressed.pcd": (pcd("binary_compressed")[:-1], "truncated or damaged: [0-9]+ bytes for 168 of 8 points"),
    "back.pcd": (pcd("binary_compressed", b"\xff\xff\xff" + bytes(165)), "its compressed points are damaged"),
    "short.pcd": (pcd("binary_compressed", b"\x00a"), "its compressed points are 1 bytes, not 168"),
    "not.npz": (b"PK\x03\x04", "not an .npz file"),
    "empty.npz": (npz(), "has no array; name the array of the points 'points'"),
    "several.npz": (npz(a=VERTICES, b=VERTICES), "has 'a', 'b'; name the array of the points 'points'"),
    "axes.npz": (npz(x=[1, 2], y=[1, 2], z=[1]), "x, y and z have different numbers of values"),
    "clouds.npz": (npz(points=VERTICES, pc=VERTICES), "has both 'points' and 'pc', either of which may be its points;"),
    "faces.npz": (npz(faces=TRIANGLES), "has 'faces'; name the array of the points 'points'"),
    "flat.npz": (npz(v=VERTICES, f=[0, 1, 2, 3, 4]), r"its faces are int64 \[5\], not vertex numbers \[m, 3\]"),
    "vtk.npz": (
        npz(v=VERTICES, f=[[3, 0, 1, 2], [3, 1, 2, 4]]),
        "each of its faces begins with their number of corners, 3; leave out that column",
    ),
    "float.npz": (npz(v=VERTICES, f=VERTICES), r"its faces are float64 \[8, 3\], not vertex numbers"),
    "from-one.npz": (
        npz(v=VERTICES, f=[[6, 7, 8]]),
        r"face 0 \(from 0\) is \(6, 7, 8\), not 3 or more of the vertices 0",
    ),
    "fields.npy": (npy(np.zeros(3, [("a", "f4"), ("b", "f4")])), r"an array of \[\('a', '<f4'\), \('b', '<f4'\)\]"),
    "words.npy": (npy(np.zeros(3, [(axis, "U3") for axis in "xyz"])), "an array of .*, not of numbers"),
    "objects.npy": (npy(np.zeros(3, [(axis, object) for axis in "xyz"])), "an array of .*, not of numbers"),
    "object.npz": (npz(points=np.array([{}, {}])), "an array of object"),
    "count.pts": (b"3\n1 2 3\n4 5 6\n", "truncated: 2 rows, but its first line says 3"),
    "no-counts.off": (b"OFF\n", "'' are not numbers"),
    "words.off": (b"OFF\na b c\n", "'a b c' are not numbers"),
    "negative.off": (off(head="OFF\n-8 3 0\n"), "'-8 3 0' are not numbers"),
    "huge.off": (off(head="OFF\n999999999 3 0\n"), "truncated: 13 lines for 999,999,999 vertices and 3 faces"),
    "cut.off": (off()[:60], "truncated: 6 lines for 8 vertices and 3 faces"),
    "vertex.off": (off().replace(b"1.0 1.0 0.0", b"1.0 x 0.0"), "line 5: '1.0 x 0.0' is not a vertex"),
    "two.off": (off().replace(b"1.0 1.0 0.0", b"1.0 1.0"), "line 5: '1.0 1.0' is not a vertex"),
    "one.off": (off().replace(b"1.0 1.0 0.0", b"1.0"), "line 5: '1.0' is not a vertex"),
    "face.off": (off().replace(b"4 4 5 6 7", b"4 4 5 6"), "line 13: '4 4 5 6' is not a face"),
    "float.off": (off().replace(b"3 0 1 2", b"3 0 1 2.5"), "line 11: '3 0 1 2.5' is not a face"),
    "out.off": (off().replace(b"3 0 1 2", b"3 0 1 8"), r"face 0 \(from 0\) is \(0, 1, 8\), not 3 or more of .* 0..7"),
    "below.off": (off().replace(b"3 0 2 3", b"3 0 2 -1"), r"face 1 \(from 0\) is \(0, 2, -1\)"),
    "edge.off": (off(polygons=[(0, 1)]), r"face 0 \(from 0\) is \(0, 1\)"),
    "nan.off": (off().replace(b"1.0 1.0 0.5", b"1.0 nan 0.5"), r"point 6 \(from 0\) has a value that is not finite"),
    "far.xyz": (b"0 0 0\n1e200 0 0\n", r"point 1 \(from 0\) .* beyond 1e\+15"),
    "none.off": (b"OFF\n0 0 0\n", "has no points"),
    "empty.ply": (b"", "an empty file; download or copy it again"),
    "endless.ply": (ply()[:80], "does not begin with a PLY header"),
    "binary.ply": (b"ply\n\xff\xfe\nend_header\n", "PLY: line 2: expected one of"),
    "no-format.ply": (ply().replace(b"format ascii 1.0\n", b""), "PLY: line 3: expected one of"),
    "version.ply": (ply().replace(b"1.0", b"2.0", 1), "PLY: line 2: expected version '1.0'"),
    "type.ply": (ply().replace(b"float x", b"quad x"), "PLY: line 7: field type 'quad' not in"),
    "count.ply": (ply().replace(b"face 3", b"face -3"), "PLY: negative dimensions"),
    "no-z.ply": (ply().replace(b"float z", b"float w"), "PLY: its vertices have red, x, y, w"),
    "no-vertex.ply": (ply().replace(b"element vertex", b"element corner"), "PLY: 'vertex'"),
    "real-index.ply": (
        ply().replace(b"uchar int vertex", b"uchar float vertex"),
        "PLY: vertex numbers that are not integers",
    ),
    "bare.ply": (b"ply\nformat ascii 1.0\nelement vertex 3\nend_header\n", "PLY: element 'vertex': row 0"),
    "cut-text.ply": (ply(extra=False)[:-20], "PLY: element 'face': row 0: .* early end"),
    "word.ply": (
        ply().replace(b"7 1.0 1.0 0.5", b"7 1.0 y 0.5"),
        "PLY: element 'vertex': row 6: property 'y': malformed input",
    ),
    "gap.ply": (ply().replace(b"7 1.0 1.0 0.5\n", b"\n"), "PLY: element 'vertex': row 6: property 'red': early end"),
    "short-face.ply": (ply().replace(b"4 4 5 6 7 0.5", b"4 4 5 6"), "PLY: element 'face': row 2: .* early end"),
    "out.ply": (ply("<", polygons=[(0, 1, 9)]), r"face 0 \(from 0\) is \(0, 1, 9\)"),
    "huge.ply": (
        ply("<").replace(b"vertex 8", b"vertex 99999999999"),
        "truncated: too few bytes for the [0-9,]+ numbers",
    ),
    "huge-face.ply": (ply("<").replace(b"face 3", b"face 99999999999"), "99,999,999,999 faces, more than"),
    "long-list.ply": (
        ply("<", length="int", extra=False)[:-20] + b"\xff\xff\xff\x7f" * 5,
        "PLY: element 'face': row 2: .* early end",
    ),
    "negative-list.ply": (
        ply("<", length="int", extra=False)[:-20] + b"\xff" * 20,
        r"face 2 \(from 0\) is \(-1, -1, -1, -1\)",
    ),
    "empty.npy": (b"", "an empty file; download or copy it again"),
    "pickle.npy": (npy(np.array([[{}, {}, {}]], dtype=object)), "an array of object"),
    "bool.npy": (npy(np.ones((4, 3), bool)), "an array of bool"),
    "flat.npy": (npy(np.ones(12)), r"an array of float64 \(12,\), not of numbers"),
    "two.npy": (npy(np.ones((6, 2))), r"an array of float64 \(6, 2\), not of numbers"),
    "cut.npy": (npy(VERTICES)[:-5], r"truncated or damaged: 187 bytes for float64 \(8, 3\)"),
    "claim.npy": (npy(VERTICES).replace(b"(8, 3)", b"(9**9, 3)"), "not a .npy file"),
    "none.npy": (npy(np.ones((0, 3))), "has no points"),
    "word.xyz": (b"1 2 3\n1 2 z\n", "not a table of numbers .*'z'"),
    "plane.xyz": (b"1 2\n3 4\n", "has 2 columns of numbers"),
    "a.glb": (b"v 1 2 3\n", "not one of .off, .ply, .obj, .stl, .npz, .npy, .pcd, .asc, .csv, .pts, .txt, .xyz"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path, name):
    data, message = BAD[name]
    message = message.replace("PLY: ", r"not a PLY file with vertices x, y, z and polygons \(")
    with pytest.raises(DataError, match=rf"^{tmp_path / name}: {message}") as caught:
        read(tmp_path, name, data)
    assert "\n" not in str(caught.value)


def attempt(tmp_path, name, data):
    """The shape, or None where it is refused in one line; any other error is the test's."""
    try:
        return read(tmp_path, name, data)
    except DataError as error:
        if "\n" in str(error):
            raise
        return None


@pytest.mark.parametrize(
    "name",
    ["a.off", "plain.ply", "short.ply", "a.npy", "a.txt", "a.obj", "a.stl", "text.stl", "b.pcd", "c.pcd", "a.npz"],
)
def test_every_truncation_is_refused_or_loses_only_what_cannot_be_known(tmp_path, name):
    whole = {**CLOUDS, **MESHES, **SOUPS}[name]
    for end in range(len(whole)):
        shape = attempt(tmp_path, name, whole[:end])
        # A text may end in a number that has lost its last digits, a cloud of text after any line.
        assert (
            shape is None
            or name in ("a.txt", "a.obj")
            or (end > len(whole) - (12 if name == "text.stl" else 6) and len(shape[1]) == 4)
        )


@pytest.mark.parametrize(
    "name", ["a.off", "text.ply", "little.ply", "a.npy", "a.obj", "a.pcd", "b.pcd", "c.pcd", "a.npz"]
)
def test_changed_bytes_load_or_are_refused(tmp_path, name):
    whole, draw = {**CLOUDS, **MESHES}[name], np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        data[draw.integers(len(data))] = draw.integers(256)
        if (shape := attempt(tmp_path, name, bytes(data))) is None:
            refused += 1
        else:
            points, faces = shape
            assert np.isfinite(points).all()
            assert not len(faces) or 0 <= faces.min() <= faces.max() < len(points)
    assert 50 < refused < 300


def test_file_beyond_the_bound_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("comhe.inputs.shapes.MAX_BYTES", 20)
    with pytest.raises(DataError, match="larger than 20 bytes"):
        read(tmp_path, "a.off", off())


@pytest.mark.parametrize("beside", ["occupancies", "sdf", "neg"])
def test_points_of_a_volume_are_not_a_surface(tmp_path, beside):
    points = np.random.default_rng(0).normal(size=(9, 3))
    np.savez(tmp_path / "a.npz", **{"pos": points, "points": points, beside: points})
    with pytest.raises(DataError, match=rf"has '{beside}': its points fill a volume and are not on a surface; give"):
        read_shape(tmp_path / "a.npz")

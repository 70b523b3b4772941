"""Meshes and clouds from files: read right, or one clear line."""

import io

import numpy as np
import pytest

from comhe.datasets import DataError
from comhe.datasets.points.shapes import read_cloud, read_shape

from .test_shapes_meshes import MESHES, VERTICES, off, ply


def npy(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def read(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    return read_shape(tmp_path / name)


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
}


@pytest.mark.parametrize("name", CLOUDS)
def test_clouds(tmp_path, name):
    points, faces = read(tmp_path, name, CLOUDS[name])
    assert (points == VERTICES).all()
    assert faces.shape == (0, 3)


LISTS = ply("<", length="int", extra=False)
BAD = {
    "empty.off": (b"", "does not begin with 'OFF'"),
    "other.off": (b"COFF\n1 0 0\n", "does not begin with 'OFF'"),
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
    "empty.ply": (b"", "does not begin with a PLY header"),
    "endless.ply": (ply()[:80], "does not begin with a PLY header"),
    "binary.ply": (b"ply\n\xff\xfe\nend_header\n", "PLY: line 2: expected one of"),
    "no-format.ply": (ply().replace(b"format ascii 1.0\n", b""), "PLY: line 3: expected one of"),
    "version.ply": (ply().replace(b"1.0", b"2.0", 1), "PLY: line 2: expected version '1.0'"),
    "type.ply": (ply().replace(b"float x", b"quad x"), "PLY: line 7: field type 'quad' not in"),
    "count.ply": (ply().replace(b"face 3", b"face -3"), "PLY: negative dimensions"),
    "no-z.ply": (ply().replace(b"float z", b"float w"), "PLY: no field of name z"),
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
    "empty.npy": (b"", "not a .npy file"),
    "pickle.npy": (npy(np.array([[{}, {}, {}]], dtype=object)), "an array of object"),
    "integers.npy": (npy(np.ones((4, 3), int)), "an array of int64"),
    "flat.npy": (npy(np.ones(12)), r"an array of float64 \(12,\), not of floats"),
    "two.npy": (npy(np.ones((6, 2))), r"an array of float64 \(6, 2\), not of floats"),
    "cut.npy": (npy(VERTICES)[:-5], r"truncated or damaged: 187 bytes for float64 \(8, 3\)"),
    "claim.npy": (npy(VERTICES).replace(b"(8, 3)", b"(9**9, 3)"), "not a .npy file"),
    "none.npy": (npy(np.ones((0, 3))), "has no points"),
    "word.xyz": (b"1 2 3\n1 2 z\n", "not a table of numbers .*'z'"),
    "plane.xyz": (b"1 2\n3 4\n", "has 2 columns of numbers"),
    "a.obj": (b"v 1 2 3\n", "not one of .off, .ply, .npy, .xyz, .txt"),
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


@pytest.mark.parametrize("name", ["a.off", "plain.ply", "short.ply", "a.npy", "a.txt"])
def test_every_truncation_is_refused_or_loses_only_what_cannot_be_known(tmp_path, name):
    whole = {**CLOUDS, **MESHES}[name]
    for end in range(len(whole)):
        shape = attempt(tmp_path, name, whole[:end])
        # A text may end in a number that has lost its last digits, a cloud of text after any line.
        assert shape is None or name == "a.txt" or (end > len(whole) - 6 and len(shape[1]) == 4)


@pytest.mark.parametrize("name", ["a.off", "text.ply", "little.ply", "a.npy"])
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
    monkeypatch.setattr("comhe.datasets.points.shapes.MAX_BYTES", 20)
    with pytest.raises(DataError, match="larger than 20 bytes"):
        read(tmp_path, "a.off", off())


def test_a_mesh_without_area(tmp_path):
    (tmp_path / "a.off").write_bytes(off(polygons=[(0, 1, 1), (2, 2, 2)]))
    with pytest.raises(DataError, match=r"a\.off: a mesh has no area"):
        read_cloud(tmp_path / "a.off", 10, "a.off")


def test_clouds_of_fewer_and_of_more_points(tmp_path):
    points = np.random.default_rng(0).normal(size=(10, 3))
    (tmp_path / "a.npy").write_bytes(npy(points))
    few = read_cloud(tmp_path / "a.npy", 4, "a.npy")
    assert len(np.unique(few, axis=0)) == 4
    many = read_cloud(tmp_path / "a.npy", 35, "a.npy")
    _, counts = np.unique(many, axis=0, return_counts=True)
    assert sorted(counts) == [3] * 5 + [4] * 5, "all, and repeats of some"
    assert (many == read_cloud(tmp_path / "a.npy", 35, "a.npy")).all()
    assert (many != read_cloud(tmp_path / "a.npy", 35, "b.npy")).any(), "the name makes the draws"


@pytest.mark.parametrize(
    ("points", "message"), [(np.ones((1, 3)), "a cloud of 1 point"), (np.ones((9, 3)), "all points at one position")]
)
def test_degenerate_clouds(tmp_path, points, message):
    (tmp_path / "a.npy").write_bytes(npy(points))
    with pytest.raises(DataError, match=rf"a\.npy: .*{message}"):
        read_cloud(tmp_path / "a.npy", 10, "a.npy")

"""Meshes and clouds from files: read right, or one clear line; sampled by area; folders by class."""

import io
import math
import struct

import numpy as np
import pytest
import torch

from comhe.datasets import DataError
from comhe.datasets.points import folder as shape_folders
from comhe.datasets.points.load import load_points
from comhe.datasets.points.shapes import read_cloud, read_shape
from comhe.datasets.points.surface import sample_surface

from .test_points import check

# A unit square in two triangles, and a quadrilateral above it.
VERTICES = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0.5], [1, 0, 0.5], [1, 1, 0.5], [0, 1, 0.5]])
POLYGONS = [(0, 1, 2), (0, 2, 3), (4, 5, 6, 7)]
TRIANGLES = [[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]]


def off(vertices=VERTICES, polygons=POLYGONS, head="OFF\n{} {} 0\n") -> bytes:
    rows = [" ".join(map(str, v)) for v in vertices] + [" ".join(map(str, (len(p), *p))) for p in polygons]
    return (head.format(len(vertices), len(polygons)) + "\n".join(rows) + "\n").encode()


def ply(order="", kind="float", length="uchar", index="int", extra=True, polygons=POLYGONS) -> bytes:
    """With a property and an element more than needed, where `extra`."""
    name = {"": "ascii", "<": "binary_little_endian", ">": "binary_big_endian"}[order]
    header = f"ply\nformat {name} 1.0\ncomment made here\nelement vertex {len(VERTICES)}\n"
    header += "property uchar red\n" * extra + "".join(f"property {kind} {axis}\n" for axis in "xyz")
    header += "element edge 1\nproperty int a\nproperty list uchar int more\n" * extra
    header += f"element face {len(polygons)}\nproperty list {length} {index} vertex_indices\n"
    header += "property float q\n" * extra + "end_header\n"
    codes = {"float": "f", "double": "d", "uchar": "B", "int": "i", "uint": "I", "short": "h", "char": "b"}

    def row(values, layout):
        return (" ".join(map(str, values)) + "\n").encode() if order == "" else struct.pack(order + layout, *values)

    body = b"".join(row([7] * extra + list(v), "B" * extra + 3 * codes[kind]) for v in VERTICES.tolist())
    body += row([5, 2, 1, 2], "iB2i") * extra
    for p in polygons:
        layout = codes[length] + len(p) * codes[index]
        body += row([len(p), *p] + [0.5] * extra, layout + "f" * extra)
    return header.encode() + body


def npy(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def read(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    return read_shape(tmp_path / name)


MESHES = {
    "a.off": off(),
    "glued.off": off(head="OFF{} {} 0\n"),
    "one-line.off": off(head="OFF {} {} 0\n"),
    "no-edges.off": off(head="OFF\n{} {}\n"),
    "comments.OFF": b"# a mesh\n" + off().replace(b"\n", b"  # here\n\n"),
    "windows.off": off().replace(b"\n", b"\r\n"),
    "colours.off": off().replace(b"3 0 1 2\n", b"3 0 1 2 255 0 0\n"),
    "text.ply": ply(),
    "windows.ply": ply().replace(b"\n", b"\r\n"),
    "plain.ply": ply(extra=False),
    "little.ply": ply("<"),
    "big.ply": ply(">", "double", "int", "uint"),
    "short.ply": ply("<", "float", "char", "short", extra=False),
    "vertex_index.ply": ply("<").replace(b"vertex_indices", b"vertex_index"),
}


@pytest.mark.parametrize("name", MESHES)
def test_meshes(tmp_path, name):
    points, faces = read(tmp_path, name, MESHES[name])
    assert points.dtype == np.float64
    assert (points == VERTICES).all()
    assert faces.tolist() == TRIANGLES


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
    "no-counts.off": (b"OFF\n", "'' are no numbers"),
    "words.off": (b"OFF\na b c\n", "'a b c' are no numbers"),
    "negative.off": (off(head="OFF\n-8 3 0\n"), "'-8 3 0' are no numbers"),
    "huge.off": (off(head="OFF\n999999999 3 0\n"), "truncated: 13 lines for 999,999,999 vertices and 3 faces"),
    "cut.off": (off()[:60], "truncated: 6 lines for 8 vertices and 3 faces"),
    "vertex.off": (off().replace(b"1.0 1.0 0.0", b"1.0 x 0.0"), "line 5: '1.0 x 0.0' is no vertex"),
    "two.off": (off().replace(b"1.0 1.0 0.0", b"1.0 1.0"), "line 5: '1.0 1.0' is no vertex"),
    "one.off": (off().replace(b"1.0 1.0 0.0", b"1.0"), "line 5: '1.0' is no vertex"),
    "face.off": (off().replace(b"4 4 5 6 7", b"4 4 5 6"), "line 13: '4 4 5 6' is no face"),
    "float.off": (off().replace(b"3 0 1 2", b"3 0 1 2.5"), "line 11: '3 0 1 2.5' is no face"),
    "out.off": (off().replace(b"3 0 1 2", b"3 0 1 8"), r"face 0 \(from 0\) is \(0, 1, 8\), not 3 or more of .* 0..7"),
    "below.off": (off().replace(b"3 0 2 3", b"3 0 2 -1"), r"face 1 \(from 0\) is \(0, 2, -1\)"),
    "edge.off": (off(polygons=[(0, 1)]), r"face 0 \(from 0\) is \(0, 1\)"),
    "nan.off": (off().replace(b"1.0 1.0 0.5", b"1.0 nan 0.5"), r"point 6 \(from 0\) has a value that is not finite"),
    "far.xyz": (b"0 0 0\n1e200 0 0\n", r"point 1 \(from 0\) .* beyond 1e\+15"),
    "none.off": (b"OFF\n0 0 0\n", "has no points"),
    "empty.ply": (b"", "no PLY header"),
    "endless.ply": (ply()[:80], "no PLY header"),
    "binary.ply": (b"ply\n\xff\xfe\nend_header\n", "line 2: .* has no place in a PLY header"),
    "no-format.ply": (ply().replace(b"format ascii 1.0\n", b""), "its header names no format"),
    "version.ply": (ply().replace(b"1.0", b"2.0", 1), "line 2: 'format ascii 2.0' has no place"),
    "type.ply": (ply().replace(b"float x", b"quad x"), "line 6: 'property quad x' has no place"),
    "count.ply": (ply().replace(b"face 3", b"face -3"), "line 12: 'element face -3' has no place"),
    "no-z.ply": (ply().replace(b"float z", b"float w"), "element vertex has no plain x, y and z, but red, x, y, w"),
    "no-vertex.ply": (ply().replace(b"element vertex", b"element corner"), "has no element vertex"),
    "real-index.ply": (
        ply().replace(b"uchar int vertex", b"uchar float vertex"),
        "line 13: a list's length or",
    ),
    "real-length.ply": (
        ply().replace(b"uchar int vertex", b"float int vertex"),
        "line 13: a list's length or",
    ),
    "bare.ply": (
        b"ply\nformat ascii 1.0\nelement vertex 3\nend_header\n",
        "its header names no format, or",
    ),
    "cut-text.ply": (ply()[:-20], "truncated: fewer than the 3 lines of element face"),
    "word.ply": (ply().replace(b"7 1.0 1.0 0.5", b"7 1.0 y 0.5"), "line 22: 'y' is no number"),
    "gap.ply": (ply().replace(b"7 1.0 1.0 0.5\n", b"\n"), "a line of element vertex is empty"),
    "short-face.ply": (ply().replace(b"4 4 5 6 7 0.5", b"4 4 5 6"), "line 27: '4 4 5 6' is no face"),
    "out.ply": (ply("<", polygons=[(0, 1, 9)]), r"face 0 \(from 0\) is \(0, 1, 9\)"),
    "huge.ply": (
        ply("<").replace(b"vertex 8", b"vertex 99999999999"),
        "truncated: .* for 99,999,999,999 rows of vertex",
    ),
    "huge-face.ply": (ply("<").replace(b"face 3", b"face 99999999999"), "truncated: .* rows of face"),
    "long-list.ply": (
        ply("<", length="int", extra=False)[:-20] + b"\xff\xff\xff\x7f" * 5,
        "truncated or damaged in element",
    ),
    "negative-list.ply": (
        ply("<", length="int", extra=False)[:-20] + b"\xff" * 20,
        "truncated or damaged in element face",
    ),
    "empty.npy": (b"", "does not begin as a .npy"),
    "pickle.npy": (npy(np.array([[{}, {}, {}]], dtype=object)), "does not begin as a .npy file of floats"),
    "integers.npy": (npy(np.ones((4, 3), int)), "does not begin as a .npy file of floats"),
    "flat.npy": (npy(np.ones(12)), "does not begin as a .npy file of floats"),
    "two.npy": (npy(np.ones((6, 2))), r"truncated or damaged: 96 bytes for float64 \[6, 2\]"),
    "cut.npy": (npy(VERTICES)[:-5], r"truncated or damaged: 187 bytes for float64 \[8, 3\]"),
    "claim.npy": (npy(VERTICES).replace(b"(8, 3)", b"(9**9, 3)"), "does not begin as a .npy"),
    "none.npy": (npy(np.ones((0, 3))), "has no points"),
    "word.xyz": (b"1 2 3\n1 2 z\n", "line 2: 'z' is no number"),
    "plane.xyz": (b"1 2\n3 4\n", "line 1: 2 numbers, where 3 to 15 are read"),
    "a.obj": (b"v 1 2 3\n", "none of .off, .ply, .npy, .xyz, .txt"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path, name):
    data, message = BAD[name]
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


@pytest.mark.parametrize("name", ["a.off", "text.ply", "little.ply", "big.ply", "a.npy", "a.txt"])
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


# Sampling ---------------------------------------------------------------------------------------------------------


def test_sampling_is_uniform_by_area():
    vertices = torch.tensor([[0, 0, 0], [3, 0, 0], [0, 2, 0], [0, 0, 5], [1, 0, 5], [0, 1, 5]], dtype=torch.float64)
    faces = torch.tensor([[0, 1, 2], [4, 4, 5], [3, 4, 5]])  # areas 3, 0 and 1/2
    n = 40000
    points, normals = sample_surface(vertices[None], faces, n, torch.Generator().manual_seed(0))
    points = points[0]
    upper = points[:, 2] == 5
    assert abs(upper.double().mean() - 1 / 7) < 5 * math.sqrt(6 / 49 / n)
    assert torch.equal(normals, torch.tensor([0.0, 0, 1], dtype=torch.float64).expand(1, n, 3))
    lower = points[~upper]
    # In the triangle x / 3 + y / 2 <= 1: its centroid, and shares of equal parts of it.
    assert (lower.mean(0) - torch.tensor([1, 2 / 3, 0])).abs().max() < 0.03
    x, y = lower[:, 0] / 3, lower[:, 1] / 2
    assert min(x.min(), y.min()) >= 0
    assert (x + y).max() <= 1 + 1e-12
    for part in ((x < 0.5) & (y < 0.5) & (x + y < 0.5), x >= 0.5, y >= 0.5):
        assert abs(part.double().mean() - 0.25) < 5 * math.sqrt(3 / 16 / len(lower))


def test_sampling_many_meshes_at_once():
    vertices = torch.rand(3, 6, 3, generator=torch.Generator().manual_seed(0))
    faces = torch.tensor([[0, 1, 2], [3, 4, 5], [0, 2, 4]])
    points, normals = sample_surface(vertices, faces, 500, torch.Generator().manual_seed(1))
    assert points.shape == normals.shape == (3, 500, 3)
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(3, 500))
    # every point lies in the plane of a face whose normal it has
    for mesh in range(3):
        corner = vertices[mesh, faces[:, 0]]
        a, b, c = vertices[mesh][faces].unbind(1)
        plane = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
        off_plane = ((points[mesh][:, None] - corner) * plane).sum(-1).abs()
        same = (normals[mesh][:, None] - plane).abs().sum(-1) < 1e-5
        assert (off_plane[same] < 1e-5).all()
        assert same.any(1).all()


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
    ("points", "message"), [(np.ones((1, 3)), "a cloud of 1 point"), (np.ones((9, 3)), "only one place")]
)
def test_degenerate_clouds(tmp_path, points, message):
    (tmp_path / "a.npy").write_bytes(npy(points))
    with pytest.raises(DataError, match=rf"a\.npy: .*{message}"):
        read_cloud(tmp_path / "a.npy", 10, "a.npy")


# Folders ----------------------------------------------------------------------------------------------------------


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture(params=["split first", "class first"])
def folder(request, tmp_path):
    """Squares and needles, 12 to train and 2 to test of each, in files of all kinds."""
    kinds = {"off": off(), "ply": ply("<"), "npy": npy(VERTICES), "xyz": CLOUDS["a.xyz"]}
    for split, count in (("train", 12), ("test", 2)):
        for name, stretch in (("needle", 9), ("square", 1)):
            for i in range(count):
                suffix = list(kinds)[i % 4]
                data = kinds[suffix] if stretch == 1 else off(VERTICES * [1, 1, stretch])
                suffix = suffix if stretch == 1 else "off"
                parts = (split, name) if request.param == "split first" else (name, split)
                put(tmp_path / "shapes" / parts[0] / parts[1] / f"{name}{i:02}.{suffix}", data)
    put(tmp_path / "shapes" / ".hidden", b"")
    put(tmp_path / "shapes" / "README", b"")
    return tmp_path / "shapes"


def load(folder):
    return load_points(f"folder:{folder}", folder.parent)


def test_folder(folder):
    clouds = load(folder)
    check(clouds)
    assert clouds.classes == ("needle", "square")
    assert clouds.num_points == 2048
    assert (len(clouds.train), len(clouds.val), len(clouds.test)) == (22, 2, 4)
    assert clouds.test.labels.tolist() == [0, 0, 1, 1]
    assert clouds.up == 2
    height = (clouds.train.points.amax(1) - clouds.train.points.amin(1))[:, 2]
    assert torch.equal(height > 1.5, clouds.train.labels == 0)


def test_folder_of_its_own_validation(folder):
    for name in ("needle", "square"):
        for parts in (("val", name), (name, "val")):
            if (folder / parts[0]).is_dir() or (folder / "train").is_dir():
                put(folder / parts[0] / parts[1] / "a.off", off())
                break
    clouds = load(folder)
    assert (len(clouds.train), len(clouds.val), len(clouds.test)) == (24, 2, 4)
    assert "its own split" in clouds.source


def test_a_cloud_does_not_depend_on_the_other_files(folder):
    before = load(folder).test
    victim = next(folder.rglob("needle00.off"))
    victim.unlink()
    after = load(folder).test
    kept = [0, 1, 2, 3] if "train" in victim.parts else [1, 2, 3]
    assert torch.equal(after.points, before.points[kept])


def test_two_files_with_one_mesh_are_sampled_apart(folder):
    clouds = load(folder)
    assert not torch.equal(clouds.train.points[0], clouds.train.points[1])


def test_folder_is_read_once(folder, monkeypatch):
    first = load(folder)
    monkeypatch.setattr(shape_folders, "read_cloud", lambda *args: pytest.fail("read again"))
    again = load(folder)
    assert torch.equal(first.train.points, again.train.points)


def test_bad_folders(folder, tmp_path):
    with pytest.raises(DataError, match=r"folder:.*nowhere: no such folder"):
        load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: has no train/<class>"):
        load(tmp_path / "empty")
    bad = next(folder.rglob("square01.ply"))
    bad.write_bytes(bad.read_bytes()[:-3])
    with pytest.raises(DataError, match=rf"^{bad}: truncated"):
        load(folder)
    assert not list(tmp_path.glob("*.npz")), "nothing half-loaded is kept"
    bad.with_suffix(".obj").touch()
    with pytest.raises(DataError, match=r"square01\.obj: is none of \.off"):
        load(folder)
    bad.with_suffix(".obj").unlink()
    parts = ("test", "cube") if (folder / "test").is_dir() else ("cube", "test")
    put(folder.joinpath(*parts, "a.off"), off())
    with pytest.raises(DataError, match=r"cube.*a\.off: class 'cube' of test has no shape in train"):
        load(folder)

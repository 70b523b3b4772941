"""Tiny sets, written as the published files are: Planetoid's pickles of Python 2, and PointNet's HDF5 files."""

import hashlib
import io
import pickle
import struct
import zipfile
from dataclasses import replace
from typing import ClassVar

import h5py
import numpy as np
import pytest
from scipy.sparse import csr_matrix

from comhe.datasets.graphs import planetoid
from comhe.datasets.points import modelnet


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote its strings, and scipy's and numpy's modules under their old names."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value):
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


def python2(value) -> bytes:
    buffer = io.BytesIO()
    Python2Pickler(buffer, 2).dump(value)
    old = buffer.getvalue().replace(b"scipy.sparse._csr\n", b"scipy.sparse.csr\n")
    return old.replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n")


def tiny_parts() -> dict[str, object]:
    """13 nodes, 5 features, 3 classes: 3 train, 4 validate, 2 others, 3 test among nodes 9..12; node 10 is a gap."""
    draw = np.random.default_rng(0)
    counts = draw.integers(0, 3, (12, 5)).astype(np.float32)
    counts[4] = 0
    one_hot = np.eye(3, dtype=np.int32)[[0, 1, 2] * 4]
    graph = {node: [(node + 1) % 13, (node - 1) % 13] for node in range(13)}
    graph[0] += [0, 5, 5]  # a loop, a duplicate, and one direction only
    return {
        "x": csr_matrix(counts[:3]),
        "y": one_hot[:3],
        "tx": csr_matrix(counts[9:]),
        "ty": one_hot[9:],
        "allx": csr_matrix(counts[:9]),
        "ally": np.asfortranarray(one_hot[:9]),
        "graph": graph,
        "test.index": b"12\n9\n11\n",
    }


def as_bytes(parts: dict[str, object], dump=python2) -> dict[str, bytes]:
    return {f"ind.tiny.{part}": v if isinstance(v, bytes) else dump(v) for part, v in parts.items()}


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The folder of a set `cora` that is tiny; its mirrors are folders that do not exist, so no test goes online."""
    data = as_bytes(tiny_parts())
    sha256 = tuple(hashlib.sha256(data[f"ind.tiny.{part}"]).hexdigest() for part in planetoid.SUFFIXES)
    spec = replace(planetoid.SETS["cora"], folder="Tiny", prefix="tiny", nodes=13, features=5, classes=3)
    monkeypatch.setitem(planetoid.SETS, "cora", replace(spec, sha256=sha256, validation=4))
    monkeypatch.setattr(planetoid, "MIRRORS", [(tmp_path / "mirror").as_uri()])
    folder = tmp_path / "Tiny" / "raw"
    folder.mkdir(parents=True)
    for name, content in data.items():
        (folder / name).write_bytes(content)
    return folder


# PointNet's layout ------------------------------------------------------------------------------------------

POINTS = 16


def some_clouds(count, points=POINTS, seed=0):
    return np.random.default_rng(seed).normal(size=(count, points, 3)).astype(np.float32)


def write_h5(path, data, label, **more):
    with h5py.File(path, "w") as file:
        for key, value in {"data": data, "label": label, **more}.items():
            file.create_dataset(key, data=value, compression="gzip" if key == "label" else None)


@pytest.fixture
def layout(tmp_path):
    """Two classes; 20 + 10 clouds to train in two files, 6 to test; listed as the published files are."""
    folder = tmp_path / "modelnet40_ply_hdf5_2048"
    folder.mkdir()
    for name, count in (("train0", 20), ("train1", 10), ("test0", 6)):
        labels = (np.arange(count) % 2).astype(np.uint8)[:, None]
        write_h5(folder / f"ply_data_{name}.h5", some_clouds(count, seed=count), labels, normal=some_clouds(count))
    names = "data/modelnet40_ply_hdf5_2048/ply_data_train0.h5\ndata/modelnet40_ply_hdf5_2048/ply_data_train1.h5\n"
    (folder / "train_files.txt").write_text(names)
    (folder / "test_files.txt").write_text("ply_data_test0.h5")
    (folder / "shape_names.txt").write_text("airplane\r\nxbox\r\n")
    return folder


@pytest.fixture
def published(layout, monkeypatch):
    """The archive of the tiny layout at a mirror in a folder, its checksum declared, its census expected."""
    mirror = layout.parent / "mirror"
    mirror.mkdir()
    archive = mirror / f"{layout.name}.zip"
    with zipfile.ZipFile(archive, "w") as members:
        for file in sorted(layout.iterdir()):
            members.write(file, f"{layout.name}/{file.name}")
        members.writestr(f"{layout.name}/ply_data_train_0_id2file.json", "[]")
        members.writestr("../outside_files.txt", "")
        members.writestr("__MACOSX/train_files.txt", "")
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    release = replace(modelnet.HDF5, mirrors=(archive.as_uri(),), sha256=sha256, max_bytes=archive.stat().st_size)
    monkeypatch.setattr(modelnet, "HDF5", release)
    monkeypatch.setattr(modelnet, "CENSUS", ((30, 6),))
    monkeypatch.setattr(modelnet, "CLASSES", 2)
    return archive

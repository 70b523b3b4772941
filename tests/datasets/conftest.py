"""A tiny Planetoid set, written as the published files are: pickles of Python 2 in protocol 2."""

import hashlib
import io
import pickle
import struct
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from comhe.datasets.graphs import planetoid


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
    sha256 = tuple(hashlib.sha256(data[f"ind.tiny.{part}"]).hexdigest() for part in planetoid.PARTS)
    spec = replace(planetoid.SETS["cora"], folder="Tiny", prefix="tiny", nodes=13, features=5, classes=3)
    monkeypatch.setitem(planetoid.SETS, "cora", replace(spec, sha256=sha256, validation=4))
    monkeypatch.setattr(planetoid, "MIRRORS", [(tmp_path / "mirror").as_uri()])
    folder = tmp_path / "Tiny" / "raw"
    folder.mkdir(parents=True)
    for name, content in data.items():
        (folder / name).write_bytes(content)
    return folder

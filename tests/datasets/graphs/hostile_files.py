"""Graphs in ``.pt``, ``.npz`` and CSV files, whole and crafted; run by test_hostile.py through tests/hostile.py."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from comhe.datasets import load_graph

from ...hostile import Crafted, Format
from ..hostile_files import Call, header, quietly, write_all, zip_bomb, zipped

KIND = "graphs (pt, npz, csv)"
X, Y = np.eye(6, dtype=np.float32), np.arange(6) % 2
E = np.array([[0, 1, 2, 3, 4], [1, 0, 3, 2, 5]])
ARRAYS = {"x": X, "edge_index": E, "y": Y, "edge_weight": np.linspace(0.5, 1, 5, dtype=np.float32)}
CSV = {
    "own/edges.csv": b"source,target,weight\n" + b"".join(b"%d,%d,0.5\n" % tuple(pair) for pair in E.T),
    "own/features.csv": b"".join(b"%d,0.5,%d,1\n" % (i, i % 3) for i in range(6)),
    "own/labels.csv": b"0\n1\n0\n1\n0\n1\n",
    "own/split.csv": b"id,split\n0,train\n1,train\n2,val\n3,test\n",
}


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def npz(arrays: dict[str, np.ndarray], save: Callable = np.savez) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


def tensors() -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in ARRAYS.items()}


def graph(folder: Path, path: Path) -> bytes:
    own = folder / "own"
    found = load_graph(f"graph:{own if own.is_dir() else path}", folder)
    return found.features.to_dense().numpy().tobytes() + found.edge_index.numpy().tobytes()


def sparse(**changes: object) -> dict[str, np.ndarray]:
    parts = {"data": np.ones(6), "indices": np.arange(6), "indptr": np.arange(7), "shape": np.array([6, 6])} | changes
    return {"edge_index": E, "y": Y} | {f"x_{part}": np.asarray(value) for part, value in parts.items()}


def formats(place: Path) -> dict[str, Format]:
    data = tensors() | {
        "train_mask": torch.arange(6) < 2,
        "val_mask": torch.arange(6) == 2,
        "test_mask": torch.arange(6) > 3,
    }
    return {
        "graph pt": Format(KIND, {"a.pt": saved(data)}, quietly(graph)),
        "graph npz": Format(KIND, {"a.npz": npz(ARRAYS)}, quietly(graph)),
        "graph npz, compressed CSR": Format(KIND, {"a.npz": npz(sparse(), np.savez_compressed)}, quietly(graph)),
        "graph csv": Format(KIND, CSV, quietly(graph), named="own"),
    }


def crafted(place: Path, cases: int) -> Iterator[Crafted]:
    marker = place / "outside-graphs"
    read = quietly(graph)
    for name, call in {
        "os.system": Call(os.system, f"mkdir {marker}"),
        "eval": Call(eval, f"__import__('os').mkdir({str(marker)!r})"),
        "bytearray": Call(bytearray, 1 << 40),
    }.items():
        for where, content in (("value", tensors() | {"y": call}), ("whole", call)):
            yield Crafted("pickle that would run code", f"{name}, pt, {where}", saved(content), read, "a.pt")
        objects = np.array([call, None], dtype=object)
        yield Crafted("pickle that would run code", f"{name}, npz", npz(ARRAYS | {"x": objects}), read, "a.npz")
    huge = {
        "a view of one number": {"x": torch.zeros(1).expand(1 << 20, 1 << 20)},
        "a sparse matrix of 2^80 numbers": {
            "x": torch.sparse_coo_tensor(torch.zeros(2, 0).long(), torch.zeros(0), (1 << 40, 1 << 20))
        },
        "a class of number 2^40": {"y": torch.full((6,), 1 << 40)},
        "a node of number 2^62": {"edge_index": torch.full((2, 5), 1 << 62)},
        "labels of another size": {"y": torch.zeros(0, dtype=torch.int64)},
        "no features": {"x": torch.zeros(6, 0)},
        "complex features": {"x": torch.ones(6, 2, dtype=torch.complex64)},
    }
    for name, change in huge.items():
        yield Crafted("absurd graphs", f"{name}, pt", saved(tensors() | change), read, "a.pt")
    arrays = {
        "rows of CSR": sparse(shape=np.array([1 << 40, 6])),
        "columns of CSR": sparse(shape=np.array([6, 1 << 40])),
        "indices of CSR": sparse(indices=np.full(6, 1 << 40)),
        "indptr of CSR": sparse(indptr=np.array([0, 1 << 40, 2, 3, 4, 5, 6])),
        "negative shape": sparse(shape=np.array([-6, 6])),
        "class numbers": ARRAYS | {"y": np.full(6, 2**62)},
        "infinite features": ARRAYS | {"x": np.full((6, 2), 1e300)},
    }
    for name, content in arrays.items():
        yield Crafted("absurd graphs", f"{name}, npz", npz(content), read, "a.npz")
    members = {
        "10^12 rows": header("999999999999"),
        "a power": header("9**9**9"),
        "no columns": header("999999999999", "0"),
    }
    others = {f"{name}.npy": npy(array) for name, array in ARRAYS.items() if name != "x"}
    for name, data in members.items():
        yield Crafted("absurd graphs", f"{name}, npz", zipped(others | {"x.npy": data}), read, "a.npz")
    for name, claim in (("2 GiB of zeros", 2 << 30), ("1 GiB that claims 100 bytes", 100)):
        yield Crafted("zip bomb", f"{name}, npz", zip_bomb("x.npy", 1 << 30, claim), read, "a.npz")
    bomb = {"archive/data.pkl": pickle.dumps({}, 2), "archive/data/0": bytes(1 << 28)}
    yield Crafted("zip bomb", "zeros in a pt", zipped(bomb, zipfile.ZIP_DEFLATED), read, "a.pt")
    tables = {
        "a wide row": {"own/features.csv": b"1," * (1 << 18) + b"1\n"},
        "a long number": {"own/features.csv": CSV["own/features.csv"].replace(b"0.5", b"9" * 100_000)},
        "a quote without end": {"own/labels.csv": b'"' + b"0\n" * 200_000},
        "zeros": {"own/edges.csv": bytes(1 << 16)},
        "infinite weights": {"own/edges.csv": b"source,target,weight\n0,1,1e999\n"},
    }
    for name, change in tables.items():
        yield Crafted("absurd graphs", f"{name}, csv", lambda folder, c=change: folders(folder, CSV | c), read, "own")


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def folders(folder: Path, files: dict[str, bytes]) -> None:
    write_all(folder / "own", {name.removeprefix("own/"): data for name, data in files.items()})

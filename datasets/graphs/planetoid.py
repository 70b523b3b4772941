"""The Planetoid files of Cora, CiteSeer and PubMed: eight raw files to arrays.

Source: Yang, Cohen and Salakhutdinov, "Revisiting Semi-Supervised Learning with Graph Embeddings", ICML 2016;
https://github.com/kimiyoung/planetoid (MIT license). `x, y` are the training nodes, `allx, ally` these and all other
nodes that are not for testing, `tx, ty` the test nodes in the order of `test.index`, `graph` the neighbor lists.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from comhe.datasets.io.files import fetch, read_bounded, warn_altered
from comhe.datasets.io.unpickle import unpickle
from comhe.datasets.registry import register_dataset
from comhe.errors import DataError

from .graph import Graph, LabeledGraph, split_graph

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SUFFIXES = ("x", "y", "tx", "ty", "allx", "ally", "graph", "test.index")
LICENSE = "MIT (files of github.com/kimiyoung/planetoid); the texts behind them are their authors'"
MAX_BYTES = 32 << 20  # the largest published file has 7.6 MB
MAX_LINKS = 10_000_000  # a small pickle can name one long list many times
MIRRORS = (
    # The last commit that touched the data, so that a later one cannot change it under us.
    "https://raw.githubusercontent.com/kimiyoung/planetoid/af6abf468a772cc055bec88c52e4d6f51b7c37e3/data",
    "https://github.com/kimiyoung/planetoid/raw/master/data",
    "https://raw.githubusercontent.com/tkipf/gcn/master/gcn/data",
)


@dataclass(frozen=True)
class PlanetoidSet:
    """What is published of one data set; `sha256` is in the order of SUFFIXES."""

    folder: str
    prefix: str
    nodes: int
    features: int
    classes: int
    sha256: tuple[str, ...]
    validation: int = 500

    @property
    def files(self) -> dict[str, str]:
        """File names with their published checksums."""
        return {f"ind.{self.prefix}.{suffix}": sha256 for suffix, sha256 in zip(SUFFIXES, self.sha256, strict=True)}


SETS = {
    "cora": PlanetoidSet(
        *("Cora", "cora", 2708, 1433, 7),
        sha256=(
            "23cfa55d91c6f624233f5eb7b6e3f141f1bd2b2ae39608a63cf5d084bb27baab",
            "94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1",
            "b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a",
            "41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad",
            "9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543",
            "2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71",
            "58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d",
            "297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875",
        ),
    ),
    "citeseer": PlanetoidSet(
        *("CiteSeer", "citeseer", 3327, 3703, 6),
        sha256=(
            "d20de19150741e555de0ed037195630fc194114ebc7fd72ced62810148aa22f6",
            "8ba87e515d8e3ee3cf52f6d2c5b86aa73f11ecad825a808455209ec26cd54924",
            "539a8906a2da97628d212f2fdd668c109a8b3f0d36574b59e5d3fd5b5303da21",
            "55e5bd1ba1e733a04598753ad1a8d57957f4b8f89e74519f41f4f4938767e4ce",
            "2ac30345d95c9ec933a817ee0bdd6a5f077f8c184a20e696910192d534414668",
            "f704b2d986dde6c2669934de1f3ae5696a6cf9455c0f6b2646a2d135ea0a1c95",
            "d79a4ef9d3e7169aee8946145f6b7306e35bc79bffad26346cfb94e10e9912a7",
            "2af990671580b6b2df5d158d1038f8292e30c9cd821b5453f399659b25b723d4",
        ),
    ),
    "pubmed": PlanetoidSet(
        *("PubMed", "pubmed", 19717, 500, 3),
        sha256=(
            "fbe9cb5c47200d1b7769a26e579be3b7130b556831f9d850e77c4c74f2599b33",
            "e6c807633307a07ed659249006536a147c7999c797f11a2560752990181b41b3",
            "4eb5f5d0f30f26497eb0ac6ac9719d09c67e284f1ed0385c93f3ef27a671da3d",
            "ee2e0d4819d9fbcc403689c3bf2e49face401b605932f093bc58ab6461130fdd",
            # From four public repositories that list it with the other 23; not computed here.
            "508e538e2abdccdd54c4d3e9f49d638b4af7107d85845f66ddea5a5152658b7e",
            "0c37bbe3b5014ec365e9d393cf4791925e5ed94fb194305d74f064a8d7b50f0e",
            "5b89f0036ca22909471f1e6558eb42fa06e0c730a577bde5b058b40638f81dc9",
            "b101d421688bbaecbd82e8a18f1e282378d6830f3a37666f28ebc47f844341b5",
        ),
    ),
}


def load_planetoid(name: str, full: bool, root: Path, seed: int | None = None) -> Graph:
    """Load the set ``name`` of SETS from ROOT/<folder>/raw, after downloading the missing files."""
    spec = SETS[name]
    folder = root / spec.folder / "raw"
    absent = [file for file in spec.files if not (folder / file).exists()]
    for file in absent:
        urls, lacking = [f"{mirror}/{file}" for mirror in MIRRORS], f"{name}: {folder} lacks {', '.join(absent)}"
        fetch(folder / file, urls, spec.files[file], MAX_BYTES, lacking)
    # Read once and checked in memory, so that the bytes that are parsed are those that were checked.
    data = {file: read_bounded(folder / file, MAX_BYTES) for file in spec.files}
    altered = [file for file, sha256 in spec.files.items() if hashlib.sha256(data[file]).hexdigest() != sha256]
    result = parse_planetoid(data, folder / f"ind.{spec.prefix}", spec.validation)
    census, expected = (*result.counts.shape, int(result.labels.max()) + 1), (spec.nodes, spec.features, spec.classes)
    if census != expected:
        found = f"{census} nodes, features and classes, not {expected}"
        raise DataError(f"{folder}: not {name}: {found}; remove the folder to download it again")
    if altered:
        warn_altered(f"{name}: {folder}", altered)
    source = "Planetoid, github.com/kimiyoung/planetoid (MIT); public split"
    return split_graph(name, result, source, full, seed)


for _name, _spec in SETS.items():
    _about = f"Planetoid: {_spec.nodes:,} papers with {_spec.features:,} words, {_spec.classes} classes"
    _options = {"license": LICENSE, "about": _about}
    register_dataset(_name, "graphs", partial(load_planetoid, _name, False), **_options)
    _options["about"] += ", all other nodes to train"
    register_dataset(f"{_name}-full", "graphs", lambda root, n=_name: load_planetoid(n, True, root), **_options)


def parse_planetoid(data: dict[str, bytes], prefix: Path, validation: int = 500) -> LabeledGraph:
    """Parse the eight files.

    As in the public preprocessing, node ``test.index[i]`` has row i of ``tx`` and ``ty``; test nodes that
    ``test.index`` leaves out (CiteSeer: 15) have no features and no label. ``x`` is train, the next nodes are val.
    ``data`` has the contents of the files by name, ``prefix`` is the folder and "ind.<set>".
    """

    def named(suffix: str) -> tuple[bytes, str]:
        return data[f"{prefix.name}.{suffix}"], f"{prefix}.{suffix}"

    x, tx, allx = (_counts(*named(suffix)) for suffix in ("x", "tx", "allx"))
    y, ty, ally = (_labels(*named(suffix)) for suffix in ("y", "ty", "ally"))
    links, nodes = _links(*named("graph"))
    test = _test_index(*named("test.index"), first=allx.shape[0], nodes=nodes)

    for suffix, features, labels, rows in (("x", x, y, None), ("tx", tx, ty, len(test)), ("allx", allx, ally, None)):
        if features.shape != (len(labels[0]) if rows is None else rows, allx.shape[1]) or labels[1] != ally[1]:
            raise DataError(f"{prefix}.{suffix}: {features.shape[0]} rows and {features.shape[1]} features do not fit")
        if len(labels[0]) != features.shape[0]:
            raise DataError(f"{prefix}.{suffix}: {features.shape[0]} rows, but {len(labels[0])} labels")
    known = len(y[0])
    if known + validation > len(ally[0]):
        raise DataError(f"{prefix}.allx: {len(ally[0])} rows, fewer than {known} to train and {validation} to validate")
    # Some copies were rewritten with fewer digits, which is no disagreement.
    if abs(allx[:known] - x).max() > 1e-5 or (ally[0][:known] != y[0]).any():
        raise DataError(f"{prefix}.x: the nodes differ from the first {known} of {prefix.name}.allx")

    from scipy.sparse import csr_array, vstack  # half a second that an import should not take

    # Row -1 of the stack is empty: what a node without features has.
    stack = vstack([allx, tx, csr_array((1, allx.shape[1]), dtype=allx.dtype)], format="csr")
    row = np.full(nodes, stack.shape[0] - 1)
    row[: len(ally[0])] = np.arange(len(ally[0]))
    row[test] = len(ally[0]) + np.arange(len(test))
    labels = np.concatenate([ally[0], ty[0], [0]])[row]
    train, val = np.split(np.arange(known + validation), [known])
    return LabeledGraph(stack[row], labels, row < stack.shape[0] - 1, links, train, val, np.sort(test))


def _counts(data: bytes, name: str) -> csr_array:
    from scipy.sparse import csr_array

    matrix = unpickle(data, name)
    if not isinstance(matrix, csr_array):
        raise DataError(f"{name}: not a CSR matrix")
    matrix.data = matrix.data.astype(np.float64)
    matrix.eliminate_zeros()
    # 1e6: no count of words is larger, and no sum of a row overflows
    if matrix.nnz and not (matrix.data.min() > 0 and matrix.data.max() < 1e6):  # also false for NaN
        raise DataError(f"{name}: a feature is negative, not finite or larger than a million")
    if 0 in matrix.shape:
        raise DataError(f"{name}: empty")
    return matrix


def _labels(data: bytes, name: str) -> tuple[np.ndarray, int]:
    one_hot = unpickle(data, name)
    if not isinstance(one_hot, np.ndarray) or one_hot.ndim != 2 or 0 in one_hot.shape:
        raise DataError(f"{name}: not a matrix of one-hot labels")
    if not (((one_hot == 0) | (one_hot == 1)).all() and (one_hot.sum(1) == 1).all()):
        raise DataError(f"{name}: a row is not a one-hot label")
    return one_hot.argmax(1), one_hot.shape[1]


def _links(data: bytes, name: str) -> tuple[np.ndarray, int]:
    graph = unpickle(data, name)
    if not isinstance(graph, dict) or not all(type(k) is int and type(v) is list for k, v in graph.items()):
        raise DataError(f"{name}: not a dictionary of neighbor lists")
    nodes, lengths = len(graph), [len(neighbors) for neighbors in graph.values()]
    if sum(lengths) > MAX_LINKS:
        raise DataError(f"{name}: more than {MAX_LINKS:,} links")
    targets = list(chain.from_iterable(graph.values()))
    # Keys are distinct, so n of them in 0..n-1 are all of these.
    if not all(type(i) is int and 0 <= i < nodes for i in chain(graph, targets)):
        raise DataError(f"{name}: a node's number is outside 0..{nodes - 1}, the number of lists")
    sources = np.repeat(np.fromiter(graph, np.int64, nodes), lengths)
    return np.stack([sources, np.array(targets, dtype=np.int64)]), nodes


def _test_index(data: bytes, name: str, first: int, nodes: int) -> np.ndarray:
    lines = data.split(maxsplit=nodes)  # not millions of them; what is left over is not a number
    if not lines or not all(line.isdigit() and len(line) < 10 for line in lines):
        raise DataError(f"{name}: not one node number a line")
    index = np.array([int(line) for line in lines])
    if len(np.unique(index)) != len(index) or index.min() != first or index.max() != nodes - 1:
        raise DataError(f"{name}: not distinct numbers from {first} to {nodes - 1}, as the other files require")
    return index

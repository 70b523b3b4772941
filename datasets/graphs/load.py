"""Citation graphs by name: Cora, CiteSeer, PubMed and the built-in `citations`, with their splits."""

import difflib
import re
import warnings
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array
from torch import Tensor

from .citation import SEED, build_citations, shuffled
from .planetoid import SETS, Citations, load_planetoid

PER_CLASS, VALIDATION, TEST = 20, 500, 1000
BUILT_IN = "citations"
_NAME = re.compile(r"(?P<base>[a-z]+)(-full|-random(?P<seed>0|[1-9][0-9]{0,8}))?")


@dataclass(frozen=True, eq=False)
class Graph:
    """One graph whose nodes are to be classified, with its split: n nodes, e directed edges, f features.

    Attributes:
        name: of the set and its split; the same everywhere.
        features: sparse CSR float32 [n, f]; each nonempty row sums to 1, as in Kipf and Welling, ICLR 2017.
        edge_index: int64 [2, e], both directions of every edge, sorted by source and target, no duplicates or loops.
        labels: int64 [n].
        train, val, test: int64 node numbers, disjoint.
        num_classes: number of classes.
        source: where the graph and its split come from.
    """

    name: str
    features: Tensor
    edge_index: Tensor
    labels: Tensor
    train: Tensor
    val: Tensor
    test: Tensor
    num_classes: int
    source: str

    @property
    def num_nodes(self) -> int:
        return self.features.shape[0]

    @property
    def num_features(self) -> int:
        return self.features.shape[1]

    def to(self, device: torch.device | str) -> "Graph":
        """The same graph with all tensors on `device`."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items()})

    def __repr__(self) -> str:
        split = f"train={len(self.train)}, val={len(self.val)}, test={len(self.test)}"
        return (
            f"Graph({self.name!r}, nodes={self.num_nodes}, edges={self.edge_index.shape[1]}, "
            f"features={self.num_features}, classes={self.num_classes}, {split})"
        )


def list_graphs() -> list[str]:
    """The names that `load_graph` takes. Any other seed may stand in place of the 0 of `-random0`."""
    return [f"{base}{split}" for base in sorted([BUILT_IN, *SETS]) for split in ("", "-full", "-random0")]


def load_graph(name: str, root: str | Path | None = None) -> Graph:
    """The graph `name`, read from the data root (see `data_root`), with missing files downloaded.

    Names: `cora`, `citeseer`, `pubmed` have the public split of Planetoid (20 nodes of each class train, 500
    validate, 1000 test); `citations` is made in code, needs no file and has a fixed split of the same sizes. With
    `-full`, validation and test stay and every other node trains, as in PyTorch Geometric (in CiteSeer this includes
    its 15 nodes without features or label, which count as class 0). With `-random<seed>`, a split of the same sizes
    is drawn anew from a generator with that seed, among the labelled nodes.

    Self loops and duplicate links of the files are removed, as in PyTorch Geometric: edges are 10,556, 9,104, 88,648.

    Raises:
        ValueError: unknown name; names the nearest ones.
        MissingDataError, DataError: files are missing or damaged (both are ValueErrors).
    Warns:
        AlteredDataWarning: files on disk are not the published ones.
    """
    match = _NAME.fullmatch(name)
    if match is None or match["base"] not in (BUILT_IN, *SETS):
        known = list_graphs()
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        raise ValueError(f"unknown graph {name!r}; {'nearest' if near else 'known'}: {', '.join(near or known)}")
    base, split = match["base"], name[len(match["base"]) + 1 :]
    if base == BUILT_IN:
        counts, labels, links = build_citations()
        parts = random_split(labels, np.full(len(labels), True), SEED)
        raw = Citations(counts, labels, np.full(len(labels), True), links, *parts)
        source = "built in: seeded planted partition (MIT)"
    else:
        raw = load_planetoid(base, root)
        source = "Planetoid, github.com/kimiyoung/planetoid (MIT)"
    if match["seed"] is not None:
        parts = random_split(raw.labels, raw.labelled, int(match["seed"]))
    else:
        parts = raw.train, raw.val, raw.test
    if split == "full":
        parts = np.setdiff1d(np.arange(len(raw.labels)), np.concatenate(parts[1:])), *parts[1:]
    fixed = "fixed split" if base == BUILT_IN else "public split"
    source = f"{source}; {f'{split} split' if split else fixed}"
    return _graph(name, raw, parts, source)


def random_split(labels: np.ndarray, labelled: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """20 nodes of each class to train, 500 others to validate, 1000 others to test, drawn among the labelled nodes.

    Raises:
        ValueError: too few nodes.
    """
    order = shuffled(len(labels), torch.Generator().manual_seed(seed))
    order = order[labelled[order]]
    train = np.concatenate([order[labels[order] == label][:PER_CLASS] for label in range(labels.max() + 1)])
    rest = order[~np.isin(order, train)]
    if len(train) != PER_CLASS * (labels.max() + 1) or len(rest) < VALIDATION + TEST:
        raise ValueError(f"{len(order)} labelled nodes are too few for {PER_CLASS} a class, {VALIDATION} and {TEST}")
    return np.sort(train), np.sort(rest[:VALIDATION]), np.sort(rest[VALIDATION : VALIDATION + TEST])


def describe(graph: Graph) -> dict[str, object]:
    """The census of a graph: counts, mean degree, isolated nodes, and homophily (share of edges within a class)."""
    source, target = graph.edge_index
    return {
        "name": graph.name,
        "nodes": graph.num_nodes,
        "edges": graph.edge_index.shape[1],
        "features": graph.num_features,
        "classes": graph.num_classes,
        "train": len(graph.train),
        "val": len(graph.val),
        "test": len(graph.test),
        "mean degree": round(len(source) / graph.num_nodes, 3),
        "isolated nodes": graph.num_nodes - len(source.unique()),
        "homophily": round((graph.labels[source] == graph.labels[target]).double().mean().item(), 4),
        "source": graph.source,
    }


def _graph(name: str, raw: Citations, parts: tuple[np.ndarray, ...], source: str) -> Graph:
    index = partial(torch.as_tensor, dtype=torch.int64)
    return Graph(
        name,
        _normalised(raw.counts),
        _edge_index(raw.links, len(raw.labels)),
        index(raw.labels),
        *(index(part) for part in parts),
        num_classes=int(raw.labels.max()) + 1,
        source=source,
    )


def _normalised(counts: csr_array) -> Tensor:
    """Rows divided by their sums; in double precision, so that it matters little how the counts were stored."""
    counts = csr_array(counts)
    counts.sort_indices()
    sums = np.asarray(counts.sum(axis=1)).ravel()
    values = counts.data / np.repeat(sums, np.diff(counts.indptr))  # empty rows have no value to divide
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.as_tensor(counts.indptr, dtype=torch.int64),
            torch.as_tensor(counts.indices, dtype=torch.int64),
            torch.as_tensor(values, dtype=torch.float32),
            size=counts.shape,
            check_invariants=True,
        )


def _edge_index(links: np.ndarray, nodes: int) -> Tensor:
    links = links[:, links[0] != links[1]]
    both = np.concatenate([links, links[::-1]], axis=1)
    adjacency = coo_array((np.ones(both.shape[1]), tuple(both)), shape=(nodes, nodes)).tocsr()
    adjacency.sum_duplicates()
    adjacency = adjacency.tocoo()
    return torch.as_tensor(np.stack([adjacency.row, adjacency.col]), dtype=torch.int64)

"""A graph whose nodes are to be classified, and its splits: public, full, and random."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array
from torch import Tensor

from comhe.datasets.labeled import check_labels
from comhe.datasets.sampling import shuffled
from comhe.errors import DataError

PER_CLASS, VALIDATION, TEST = 20, 500, 1000  # nodes of a random split


@dataclass(frozen=True, eq=False)
class Graph:
    """One graph of n nodes, e directed edges and f features, with its split.

    Attributes:
        features: Sparse CSR float32 [n, f]; each nonempty row sums to 1, as in Kipf and Welling, ICLR 2017.
        edge_index: int64 [2, e], both directions of every edge, sorted by source and target, no duplicates or loops.
        train, val, test: int64 node numbers, disjoint.
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

    def to(self, device: torch.device | str) -> Graph:
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items()})  # type: ignore[arg-type]

    @classmethod
    def from_arrays(
        cls, name: str, features: Any, edge_index: Any, labels: Any, train: Any, val: Any, test: Any, source: str = ""
    ) -> Graph:
        """Build a graph from arrays or tensors.

        Args:
            features: [n, f], dense or a scipy matrix, not negative; rows are divided by their sums.
            edge_index: [2, m] node numbers; edges get both directions, loops and duplicates are removed.
            labels: [n] integers from 0.
            train, val, test: Node numbers, or masks [n].

        Example:
            >>> Graph.from_arrays("path", np.eye(3), [[0, 1], [1, 2]], [0, 1, 0], train=[0], val=[1], test=[2])
            Graph('path', nodes=3, edges=4, features=3, classes=2, train=1, val=1, test=1)
        """
        labels, links, counts = np.asarray(labels), np.asarray(edge_index), csr_array(features)
        nodes = len(labels)
        check_labels(labels, counts.shape[0], int(labels.max(initial=0)) + 1, name)
        if links.ndim != 2 or len(links) != 2 or (links.size and not 0 <= links.min() <= links.max() < nodes):
            raise DataError(f"{name}: edge_index is not [2, m] of the node numbers 0..{nodes - 1}")
        splits = [np.flatnonzero(s) if s.dtype == bool else s for s in map(np.asarray, (train, val, test))]
        used = np.concatenate(splits)
        if len(np.unique(used)) != len(used) or not 0 <= used.min(initial=0) <= used.max(initial=0) < nodes:
            raise DataError(f"{name}: train, val and test are not disjoint node numbers in 0..{nodes - 1}")
        if counts.nnz and not 0 <= counts.data.min() <= counts.data.max() < np.inf:
            raise DataError(f"{name}: a feature is negative or not finite")
        labels, train, val, test = (torch.as_tensor(array, dtype=torch.int64) for array in (labels, *splits))
        matrix, edges = _row_normalized(counts), _undirected(links, nodes)
        return cls(name, matrix, edges, labels, train, val, test, int(labels.max()) + 1, source)

    def describe(self) -> dict[str, object]:
        """Return the census; homophily is the fraction of edges within a class."""
        source, target = self.edge_index
        homophily = (self.labels[source] == self.labels[target]).double().mean().item()
        return {
            "name": self.name, **self._sizes(), "mean degree": round(len(source) / self.num_nodes, 3),
            "isolated nodes": self.num_nodes - len(source.unique()), "homophily": round(homophily, 4),
            "source": self.source,
        }  # fmt: skip

    def _sizes(self) -> dict[str, int]:
        sizes = {"nodes": self.num_nodes, "edges": self.edge_index.shape[1], "features": self.num_features}
        sizes["classes"] = self.num_classes
        return sizes | {"train": len(self.train), "val": len(self.val), "test": len(self.test)}

    def __repr__(self) -> str:
        return f"Graph({self.name!r}, {', '.join(f'{key}={size}' for key, size in self._sizes().items())})"


def _row_normalized(counts: csr_array) -> Tensor:
    """Divide rows by their sums, in double precision, so that the type of the counts hardly matters."""
    counts.sort_indices()
    sums = np.asarray(counts.sum(axis=1)).ravel()
    values = counts.data / np.repeat(sums, np.diff(counts.indptr))  # an empty row has no value to divide
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        rows, columns = (torch.as_tensor(index, dtype=torch.int64) for index in (counts.indptr, counts.indices))
        values = torch.as_tensor(values, dtype=torch.float32)
        return torch.sparse_csr_tensor(rows, columns, values, size=counts.shape, check_invariants=True)


def _undirected(links: np.ndarray, nodes: int) -> Tensor:
    """Both directions of all links, sorted, without loops and duplicates."""
    links = links[:, links[0] != links[1]]
    both = np.concatenate([links, links[::-1]], axis=1)
    adjacency = coo_array((np.ones(both.shape[1]), tuple(both)), shape=(nodes, nodes)).tocsr()
    adjacency.sum_duplicates()
    adjacency = adjacency.tocoo()
    return torch.as_tensor(np.stack([adjacency.row, adjacency.col]), dtype=torch.int64)


@dataclass(frozen=True)
class LabeledGraph:
    """One data set as arrays, before normalization: n nodes, f features."""

    counts: csr_array  # [n, f], no negative and no stored zero
    labels: np.ndarray  # int64 [n]; 0 for a node without a label
    labeled: np.ndarray  # bool [n]; of 15 nodes of CiteSeer only the links are known
    links: np.ndarray  # int64 [2, m] as listed: with self loops, duplicates, perhaps only one direction
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def split_graph(name: str, raw: LabeledGraph, source: str, full: bool, seed: int | None) -> Graph:
    """Return the graph with the split of its source; with all other nodes in train; or with a random split."""
    train, val, test = raw.train, raw.val, raw.test
    if seed is not None:
        train, val, test = random_split(raw.labels, raw.labeled, seed)
    if full:
        train = np.setdiff1d(np.arange(len(raw.labels)), np.concatenate([val, test]))
    changed = "full" if full else None if seed is None else f"random{seed}"
    if changed:
        source = f"{source.rpartition('; ')[0]}; {changed} split"
    return Graph.from_arrays(name, raw.counts, raw.links, raw.labels, train, val, test, source)


def random_split(labels: np.ndarray, labeled: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw 20 nodes of each class to train, 500 others to validate and 1000 others to test, among the labeled nodes."""
    order = shuffled(len(labels), torch.Generator().manual_seed(seed))
    order = order[labeled[order]]
    train = np.concatenate([order[labels[order] == label][:PER_CLASS] for label in range(labels.max() + 1)])
    rest = order[~np.isin(order, train)]
    if len(train) != PER_CLASS * (labels.max() + 1) or len(rest) < VALIDATION + TEST:
        raise DataError(f"{len(order)} labeled nodes are too few for {PER_CLASS} a class, {VALIDATION} and {TEST}")
    return np.sort(train), np.sort(rest[:VALIDATION]), np.sort(rest[VALIDATION : VALIDATION + TEST])

"""A graph whose nodes are to be classified, and its splits: public, full, and random."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from comhe.datasets.labeled import check_integers, check_labels
from comhe.datasets.scarcity import draw_labels
from comhe.errors import DataError, few, warn

from . import fields
from .splits import SPLITS, random_split, read_split

if TYPE_CHECKING:
    from scipy.sparse import csr_array

ONE_WAY = 0.01  # the share of edges in one direction from which a graph is told to be directed
DENSE = 0.25  # the share of features that are not zero from which they are stored as a dense matrix


@dataclass(frozen=True, eq=False)
class Graph:
    """One graph of n nodes, e directed edges and f features, with its split.

    Citation networks are prepared as by Kipf and Welling, ICLR 2017: each row of features is divided by its sum
    (``normalized``), and edges go both ways, sorted, without duplicates and self-loops (``undirected``). Other graphs
    are used as they are given, with what PyTorch Geometric's layers make of it: an edge in one direction sends
    messages in one direction, one that is given twice sends two.

    Attributes:
        features: float32 [n, f], sparse CSR, or dense if a quarter of them or more are not zero.
        edge_index: int64 [2, e], sources and targets.
        labels: int64 [n], -1 for a node without one, which is in no split.
        train, val, test: int64 node numbers, disjoint.
        edge_weight: float32 [e], or None.
        classes: the names of the classes by label, if they have names.
        node_names: the names of the nodes by number, if they have names.
        feature_names: the names of the features in their order, if they have names, as columns of a table.
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
    edge_weight: Tensor | None = None
    normalized: bool = True
    undirected: bool = True
    classes: tuple[str, ...] = ()
    node_names: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()

    @property
    def num_nodes(self) -> int:
        return self.features.shape[0]

    @property
    def num_features(self) -> int:
        return self.features.shape[1]

    def to(self, device: torch.device | str) -> Graph:
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items()})  # type: ignore[arg-type]

    def with_labels(self, per_class: int = 0, noise: float = 0.0, seed: int = 0) -> Graph:
        """Return the graph with fewer or wrong labels in ``train``; see :func:`.draw_labels`.

        Nodes that leave ``train`` are in no split.
        """
        if not (per_class or noise):
            return self
        rows, labels = draw_labels(self.labels[self.train].cpu().numpy(), self.num_classes, per_class, noise, seed)
        train = self.train[rows]
        wrong = torch.as_tensor(labels, device=train.device)
        return replace(self, train=train, labels=self.labels.index_copy(0, train, wrong))

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
        from scipy.sparse import csr_array

        labels, links = np.asarray(labels), np.asarray(edge_index)
        x = fields.as_array(features, f"{name}: features")
        if x.ndim != 2 or x.dtype.kind not in "biuf":
            raise DataError(f"{name}: features are {x.dtype} {list(x.shape)}, not numbers [nodes, features]")
        counts, nodes = csr_array(x.astype(np.float32) if x.dtype == np.float16 else x), x.shape[0]
        check_integers(labels, nodes, name)
        check_labels(labels, nodes, int(labels.max(initial=0)) + 1, name)
        if links.size and links.dtype.kind not in "iu":
            raise DataError(f"{name}: edge_index has numbers of type {links.dtype}, not integers")
        if links.ndim != 2 or len(links) != 2 or (links.size and not 0 <= links.min() <= links.max() < nodes):
            raise DataError(f"{name}: edge_index is not [2, m] of the node numbers 0..{nodes - 1}")
        splits = []
        for split, array in zip(SPLITS, (train, val, test), strict=True):
            given = fields.as_vector(np.atleast_1d(array))
            is_mask = given.dtype == bool or (len(given) == nodes > 2 and np.isin(given, (0, 1)).all())
            if is_mask and given.shape != (nodes,):
                raise DataError(f"{name}: the mask of {split} is {list(given.shape)}, but there are {nodes} nodes")
            if not is_mask and (given.ndim != 1 or (given.size and given.dtype.kind not in "iu")):
                raise DataError(
                    f"{name}: {split} has {given.dtype} {list(given.shape)}, neither node numbers nor a mask"
                )
            splits.append(np.flatnonzero(given) if is_mask else given)
        used = np.concatenate(splits)
        if len(np.unique(used)) != len(used) or not 0 <= used.min(initial=0) <= used.max(initial=0) < nodes:
            raise DataError(f"{name}: train, val and test are not disjoint node numbers in 0..{nodes - 1}")
        if counts.nnz and not 0 <= counts.data.min() <= counts.data.max() < np.inf:
            raise DataError(f"{name}: a feature is negative or not finite")
        labels, train, val, test = (torch.as_tensor(array, dtype=torch.int64) for array in (labels, *splits))
        matrix, edges = _row_normalized(counts), torch.as_tensor(undirected_edges(links, nodes)[0])
        return cls(name, matrix, edges, labels, train, val, test, int(labels.max()) + 1, source)

    @classmethod
    def from_pyg(
        cls, data: Any, name: str = "graph", seed: int | None = None, undirected: bool = False,
        split: int | None = None, labeled: bool = True,
    ) -> Graph:  # fmt: skip
        """Build a graph from PyTorch Geometric's ``Data``, or from a dictionary of such arrays.

        Features and edges are used as they are. Nodes without a label have -1. Without masks, or with a ``seed``, 60 %
        of each class train, 20 % validate and 20 % test. What ``data`` has and is not used is named in a warning.

        Args:
            data: ``x`` [n, f], dense or sparse; ``edge_index`` [2, m] or ``adj_t``; ``y`` [n] or one-hot [n, classes];
                perhaps ``edge_weight`` [m], ``train_mask``, ``val_mask`` and ``test_mask``, or ``split`` [n], the word
                train, val or test for each node; perhaps ``node_names`` [n], words or whole numbers by which
                :func:`.predict_nodes` calls the nodes.
            undirected: add the other direction of every edge; duplicates and self-loops go, and of the weights of one
                pair of nodes the mean stays.
            split: which of several, for masks [n, k] or [k, n], counted from 0; the first by default.
            labeled: whether ``y`` and a split are needed, to train; without, the graph is one to predict, all of whose
                labels are -1.

        Example:
            >>> data = {"x": np.eye(3), "edge_index": [[0, 1, 1, 2], [1, 0, 2, 1]], "y": [0, 1, 0]}
            >>> Graph.from_pyg(data | {"train_mask": [0], "val_mask": [1], "test_mask": [2]})
            Graph('graph', nodes=3, edges=4, features=3, classes=2, train=1, val=1, test=1)
        """
        if not isinstance(data, Mapping) and (hasattr(data, "node_types") or not hasattr(data, "to_dict")):
            kind = type(data).__name__
            raise DataError(f"{name}: a {kind} is not a graph with one kind of nodes; give a Data of PyTorch Geometric")
        found = data if isinstance(data, Mapping) else data.to_dict()
        return cls.from_fields(name, found, "", seed, undirected, split, labeled)

    @classmethod
    def from_fields(
        cls, name: str, data: Mapping[str, Any], source: str, seed: int | None = None, undirected: bool = False,
        split: int | None = None, labeled: bool = True,
    ) -> Graph:  # fmt: skip
        """Build a graph from arrays under the names that others give them; see :meth:`from_pyg`."""
        found = fields.rename(data, name, labeled)
        x = fields.check_features(found["x"], name)
        nodes = x.shape[0]
        edges, weight = fields.check_edges(found["edge_index"], found.get("edge_weight"), nodes, name)
        names = fields.names_of(data.get("node_names"), nodes, name)
        labels: Any = np.full(nodes, -1)
        classes: tuple[str, ...] = ()
        nodes_of, words = (np.empty(0, np.int64),) * 3, "to predict: without labels"
        drawn = labeled and seed is None and found.keys().isdisjoint(SPLITS)
        fields.warn_of_unused(data, name, drawn)
        if labeled:
            labels, classes = fields.check_labels(found["y"], nodes, name)
            nodes_of, words = read_split(found, labels, seed, name, split)
            warn_of_gaps(labels, nodes_of[0], name)
        shared, counts = np.unique(np.concatenate(nodes_of), return_counts=True)
        if len(shared := shared[counts > 1]):
            where = " and ".join(split for split, part in zip(SPLITS, nodes_of, strict=True) if shared[0] in part)
            others = f"; so are {len(shared) - 1:,} others in two splits" * (len(shared) > 1)
            raise DataError(f"{name}: node {shared[0]} is in both {where}{others}")
        if undirected:
            edges, weight = undirected_edges(edges, nodes, weight)
        elif (share := one_way_share(edges, nodes)) >= ONE_WAY:
            hint = f"graph-undirected{name[name.find(':') :]}" if ":" in name else "undirected=True"
            goes = "every edge goes" if share == 1 else f"{100 * share:.3g} % of its edges go"
            warn(f"{name}: {goes} in one direction only; {hint} adds the other")
        train, val, test = map(torch.as_tensor, nodes_of)
        return cls(
            name, _features(x), torch.as_tensor(edges.copy()), torch.as_tensor(labels), train, val, test,
            int(labels.max()) + 1, "; ".join(filter(None, (source, words))),
            None if weight is None else torch.as_tensor(weight),
            normalized=False, undirected=undirected, classes=classes, node_names=names,
            feature_names=tuple(map(str, data.get("feature_names", ()))),
        )  # fmt: skip

    def with_features(self, names: Sequence[str]) -> Graph:
        """Return the graph with its features in the order of these names; itself if either has no names.

        Raises:
            DataError: the names are others.
        """
        if not names or not self.feature_names or tuple(names) == self.feature_names:
            return self
        if lacking := [name for name in names if name not in self.feature_names]:
            raise DataError(f"{self.name}: has no feature {few(lacking)}, which the network was trained on")
        warn(f"{self.name}: its features are put in the order in which the network was trained on them")
        place = {name: i for i, name in enumerate(self.feature_names)}
        columns = torch.tensor([place[name] for name in names], device=self.features.device)
        x = self.features
        dense = x.layout == torch.strided
        x = x.index_select(1, columns) if dense else x.to_sparse_coo().index_select(1, columns).to_sparse_csr()
        return replace(self, features=x, feature_names=tuple(names))

    def describe(self) -> dict[str, object]:
        """Return the census; homophily is the fraction of edges within a class."""
        source, target = self.edge_index
        known = (self.labels[source] >= 0) & (self.labels[target] >= 0)
        homophily = (self.labels[source] == self.labels[target])[known].double().mean().item() if known.any() else None
        return {
            "name": self.name, **self._sizes(), "mean degree": round(len(source) / self.num_nodes, 3),
            "isolated nodes": self.num_nodes - len(self.edge_index.unique()),
            "homophily": None if homophily is None else round(homophily, 4), **self._oddities(), "source": self.source,
        }  # fmt: skip

    def _oddities(self) -> dict[str, object]:
        """What a graph that is used as it was given may have, and a citation network does not."""
        if self.normalized and self.undirected:
            return {}
        keys = self.edge_index[0] * self.num_nodes + self.edge_index[1]
        turned = self.edge_index[1] * self.num_nodes + self.edge_index[0]
        return {
            "unlabeled nodes": int((self.labels < 0).sum()),
            "edges in one direction": int((~torch.isin(keys, turned)).sum()),
            "self-loops": int((keys == turned).sum()), "duplicate edges": len(keys) - len(keys.unique()),
            "edge weights": self.edge_weight is not None,
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
    counts.data = values
    return _csr_tensor(counts)


def _csr_tensor(matrix: csr_array) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        rows, columns = (torch.as_tensor(index, dtype=torch.int64) for index in (matrix.indptr, matrix.indices))
        values = torch.as_tensor(matrix.data, dtype=torch.float32)
        return torch.sparse_csr_tensor(rows, columns, values, size=matrix.shape, check_invariants=True)


def _features(x: Any) -> Tensor:
    """Features as a CSR tensor, or dense where CSR would be larger and slower."""
    from scipy.sparse import csr_array

    if np.count_nonzero(x if isinstance(x, np.ndarray) else x.data) >= DENSE * x.shape[0] * x.shape[1]:
        return torch.as_tensor(np.ascontiguousarray(x if isinstance(x, np.ndarray) else x.toarray()))
    return _csr_tensor(csr_array(x))


def undirected_edges(edges: np.ndarray, nodes: int, weight: np.ndarray | None = None) -> tuple[Any, Any]:
    """Both directions of all edges, sorted, without loops and duplicates; and the mean weight of each pair."""
    from scipy.sparse import coo_array

    keep = edges[0] != edges[1]
    edges = edges[:, keep]
    both = np.concatenate([edges, edges[::-1]], axis=1)

    def summed(values: np.ndarray) -> Any:
        matrix = coo_array((values, tuple(both)), shape=(nodes, nodes)).tocsr()
        matrix.sum_duplicates()
        return matrix.tocoo()

    counts = summed(np.ones(both.shape[1]))
    if weight is not None:
        weight = (summed(np.tile(weight[keep].astype(np.float64), 2)).data / counts.data).astype(np.float32)
    return np.stack([counts.row, counts.col]).astype(np.int64), weight


def one_way_share(edges: np.ndarray, nodes: int) -> float:
    """Return the share of the edges between different nodes that go in one direction only."""
    source, target = edges[:, edges[0] != edges[1]]
    one_way = ~np.isin(source * nodes + target, target * nodes + source)
    return float(one_way.mean()) if len(source) else 0.0


def warn_of_gaps(labels: np.ndarray, train: np.ndarray, name: str) -> None:
    """Warn of classes below the largest one that no node belongs to, and of those that no node in train belongs to."""
    counts = np.bincount(labels[labels >= 0])
    if len(empty := np.flatnonzero(counts == 0)):
        found = f"of its {len(counts)} classes, no node has {few(empty, 8)}; number the classes from 0 without gaps"
        warn(f"{name}: {found}")
    if len(unseen := np.setdiff1d(np.flatnonzero(counts), labels[train])):
        found = f"no node in train has class {few(unseen, 8)}, so no network can learn to tell it"
        warn(f"{name}: {found}; move some of its nodes to train")


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

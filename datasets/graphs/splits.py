"""The splits of citation graphs: public, full, and random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array

from comhe.datasets.sampling import shuffled
from comhe.errors import DataError

from .graph import Graph

PER_CLASS, VALIDATION, TEST = 20, 500, 1000


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

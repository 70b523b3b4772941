"""The built-in citation graph: a planted partition with words, generated from a fixed seed.

It has what makes the public citation graphs a test for graph networks: seven classes of unequal size, few links a node
but some hubs, links that mostly stay within a class, and short bags of words of which each class prefers some. Only
integers are drawn, and none of torch's shuffling is used, so the graph is the same on every platform and device.

Source of the model: Condon and Karp, "Algorithms for Graph Partitioning on the Planted Partition Model", 2001, with
the degree correction of Karrer and Newman, "Stochastic blockmodels and community structure in networks", 2011.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from comhe.datasets.registry import register_dataset
from comhe.datasets.sampling import shuffled

from .graph import Graph, LabeledGraph, split_graph
from .splits import random_split

if TYPE_CHECKING:
    from scipy.sparse import csr_array

LICENSE = "MIT, made by this package"
SEED = 1971
CLASS_SIZES = (540, 450, 390, 340, 300, 260, 220)
WORDS = 1000
TOPIC_WORDS = 120  # words that a class prefers; neighboring classes share half of theirs
TOPICAL = 24  # percent of a node's words that come from its class, the others from all words
LINKS = 5300  # drawn, before duplicates and self loops go
WITHIN = 69  # percent of links drawn within the class; chance adds to it


def load_citations(full: bool, seed: int | None = None) -> Graph:
    counts, labels, links = build_citations()
    labeled = np.full(len(labels), True)
    raw = LabeledGraph(counts, labels, labeled, links, *random_split(labels, labeled, SEED))
    return split_graph("citations", raw, "built in: seeded planted partition (MIT); fixed split", full, seed)


ABOUT = f"built in: 2,500 generated papers with {WORDS:,} words, 7 classes"
register_dataset("citations", "graphs", lambda seed=None: load_citations(False, seed), license=LICENSE, about=ABOUT)
register_dataset(
    "citations-full", "graphs", lambda: load_citations(True), license=LICENSE, about=f"{ABOUT}, all others to train"
)


def build_citations() -> tuple[csr_array, np.ndarray, np.ndarray]:
    """Build bags of words [2500, 1000] (0 or 1), classes int64 [2500] and links int64 [2, m] in one direction."""
    draw = torch.Generator().manual_seed(SEED)
    nodes, classes = sum(CLASS_SIZES), len(CLASS_SIZES)
    labels = np.repeat(np.arange(classes), CLASS_SIZES)[shuffled(nodes, draw)]
    return _words(labels, draw), labels, _links(labels, draw)


def _integers(high: int, count: int, draw: torch.Generator) -> np.ndarray:
    return torch.randint(high, (count,), generator=draw).numpy()


def _weighted(weights: np.ndarray, count: int, draw: torch.Generator) -> np.ndarray:
    """Draw ``count`` indices, each with probability weight/sum; integer weights, so that no rounding differs."""
    edges = np.cumsum(weights)
    return np.searchsorted(edges, _integers(int(edges[-1]), count, draw), side="right")


def _links(labels: np.ndarray, draw: torch.Generator) -> np.ndarray:
    nodes = len(labels)
    # 1/u for a uniform u: a few nodes are 17 times as popular as most.
    popularity = 65536 // (64 + _integers(1024, nodes, draw))
    # Every node cites once, the rest of the citing falls to the popular ones.
    source = np.concatenate([np.arange(nodes), _weighted(popularity, LINKS - nodes, draw)])
    target = _weighted(popularity, LINKS, draw)
    within = _integers(100, LINKS, draw) < WITHIN
    for label in range(labels.max() + 1):
        chosen = np.flatnonzero(within & (labels[source] == label))
        target[chosen] = _weighted(np.where(labels == label, popularity, 0), len(chosen), draw)
    return np.stack([source, target])


def _words(labels: np.ndarray, draw: torch.Generator) -> csr_array:
    from scipy.sparse import csr_array  # half a second that an import should not take

    # Zipf's law, in integers: the k-th word is about 1/k as frequent as the first.
    common, preferred = (100_000 // (20 + np.arange(count)) for count in (WORDS, TOPIC_WORDS))
    topics = shuffled(WORDS, draw)
    node = np.repeat(np.arange(len(labels)), 8 + _integers(17, len(labels), draw))
    rank = _weighted(preferred, len(node), draw)
    topical = topics[labels[node] * (TOPIC_WORDS // 2) + rank]
    word = np.where(_integers(100, len(node), draw) < TOPICAL, topical, _weighted(common, len(node), draw))
    bags = csr_array((np.ones(len(node)), (node, word)), shape=(len(labels), WORDS))
    bags.sum_duplicates()
    bags.data[:] = 1
    return bags

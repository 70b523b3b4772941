"""What holds for every graph, the splits, and the built-in one."""

import numpy as np
import pytest
import torch

from comhe.datasets import DataError, Graph, list_data, load_graph


def check(graph):
    """The invariants that `Graph` promises."""
    nodes, edges = graph.num_nodes, graph.edge_index
    assert graph.features.layout == torch.sparse_csr
    assert graph.features.dtype == torch.float32
    assert edges.dtype == graph.labels.dtype == torch.int64
    assert graph.features.values().min() > 0
    sums = graph.features @ torch.ones(graph.num_features, 1)
    assert torch.all(torch.isclose(sums, torch.ones(())) | (sums == 0))
    assert edges.min() >= 0
    assert edges.max() < nodes
    keys = edges[0] * nodes + edges[1]
    assert torch.all(keys[1:] > keys[:-1]), "edges are sorted and distinct"
    assert torch.equal((edges[1] * nodes + edges[0]).sort().values, keys), "both directions"
    assert not torch.any(edges[0] == edges[1]), "no loops"
    assert graph.labels.shape == (nodes,)
    assert graph.labels.min() >= 0
    assert graph.labels.max() == graph.num_classes - 1
    split = torch.cat([graph.train, graph.val, graph.test])
    assert len(split.unique()) == len(split), "parts are disjoint"
    assert split.dtype == torch.int64
    assert split.min() >= 0
    assert split.max() < nodes


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("coar", "did you mean cora"),
        ("citeseer-ful", "did you mean citeseer-full"),
        ("Cora", "did you mean .*cora"),
        ("cora-random", "did you mean cora-random0"),
        ("cora-random01", "did you mean cora-random0"),  # or one split would have two names
        ("cora-random-1", "did you mean cora-random0"),
        ("../cora", "did you mean cora"),
        ("", "there are citations, .*pubmed"),
        ("zzz", "there are citations, .*pubmed"),
    ],
)
def test_unknown_name(name, nearest):
    with pytest.raises(ValueError, match=f"^unknown data set '{name}' for graphs; {nearest}"):
        load_graph(name)


def test_listed_names_are_unique_and_known():
    names = list_data("graphs")
    assert len(set(names)) == len(names) == 23
    assert {"cora", "citeseer-full", "pubmed-random0", "citations"} <= set(names)
    for name in names:
        if name.startswith("citations"):
            load_graph(name)


def test_repr_and_device():
    graph = load_graph("citations")
    assert repr(graph).startswith("Graph('citations', nodes=2500, edges=")
    moved = graph.to("meta")
    assert moved.features.device.type == moved.edge_index.device.type == moved.test.device.type == "meta"
    assert moved.name == graph.name


ARRAYS = {
    "features": np.eye(4), "edge_index": [[0, 1], [1, 2]], "labels": [0, 1, 0, 1],
    "train": [0, 3], "val": [1], "test": [2],
}  # fmt: skip


@pytest.mark.parametrize("kind", [bool, int, np.uint8, float])
def test_a_mask_of_any_type_is_the_nodes_that_it_marks(kind):
    masks = {name: np.isin(np.arange(4), ARRAYS[name]).astype(kind) for name in ("train", "val", "test")}
    forms = {"features": np.eye(4, dtype=np.float16), "train": [[0, 3]], "val": 1}
    found, expected = (Graph.from_arrays("g", **arrays) for arrays in (ARRAYS | masks, ARRAYS | forms))
    assert all(torch.equal(getattr(found, name), getattr(expected, name)) for name in masks)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"edge_index": [[0.7, 1.9], [1.2, 2.9]]}, "edge_index has numbers of type float64, not integers"),
        ({"train": [0.7]}, r"train has float64 \[1\], neither node numbers nor a mask"),
        ({"train": [[0, 3], [0, 3]]}, r"train has int64 \[2, 2\], neither node numbers nor a mask"),
        ({"features": [["a"], ["b"], ["c"], ["d"]]}, r"features are <U1 \[4, 1\], not numbers \[nodes, features\]"),
        ({"features": np.ones(4)}, r"features are float64 \[4\], not numbers"),
        ({"labels": 1}, r"labels are int64 \[\], not one integer for 4 samples"),
        ({"train": [True]}, r"the mask of train is \[1\], but there are 4 nodes"),
        ({"train": [0, 1]}, "not disjoint node numbers"),
    ],
)
def test_arrays_that_are_no_graph_are_refused(change, fault):
    with pytest.raises(DataError, match=f"^g: .*{fault}"):
        Graph.from_arrays("g", **ARRAYS | change)

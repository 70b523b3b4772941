"""What holds for every graph, the splits, and the built-in one."""

import pytest
import torch

from comhe.datasets import list_data, load_graph


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

"""What holds for every graph, the splits, and the built-in one."""

import hashlib

import pytest
import torch

from comhe.datasets import describe, list_graphs, load_graph


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


def digest(*tensors) -> str:
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in tensors)).hexdigest()[:16]


@pytest.mark.parametrize("name", ["citations", "citations-full", "citations-random0", "citations-random7"])
def test_built_in(name):
    graph = load_graph(name, root="no/such/folder")
    check(graph)
    assert graph.name == name
    census = describe(graph)
    assert (census["nodes"], census["features"], census["classes"]) == (2500, 1000, 7)
    assert (census["train"], census["val"], census["test"]) == (1000 if "full" in name else 140, 500, 1000)
    assert 3.8 < census["mean degree"] < 4.4
    assert 0.72 < census["homophily"] < 0.78
    degree = graph.edge_index[0].bincount()
    assert degree.max() > 5 * degree.double().mean(), "some nodes are hubs"
    if "full" not in name:
        assert graph.labels[graph.train].bincount().tolist() == [20] * 7


def test_built_in_is_the_same_everywhere():
    """Results that name `citations` compare only while these stay; a change of the generator needs a new name."""
    graph = load_graph("citations")
    features = graph.features
    assert digest(graph.edge_index, graph.labels) == "98611c0086b43009"
    assert digest(features.crow_indices(), features.col_indices()) == "0b36566a8508d120"
    assert digest(graph.train, graph.val, graph.test) == "68a36087d51b5cb2"


def test_global_generator_is_neither_used_nor_changed():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = load_graph("citations-random3")
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    again = load_graph("citations-random3")
    assert torch.equal(first.train, again.train)
    assert torch.equal(first.test, again.test)


def test_seeds_differ_and_full_keeps_the_test_nodes():
    fixed, full, zero, one = (load_graph(f"citations{split}") for split in ("", "-full", "-random0", "-random1"))
    assert not torch.equal(zero.train, one.train)
    assert not torch.equal(zero.test, one.test)
    assert torch.equal(fixed.val, full.val)
    assert torch.equal(fixed.test, full.test)
    assert len(full.train) + len(full.val) + len(full.test) == full.num_nodes
    assert torch.equal(zero.edge_index, one.edge_index)


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
        ("", "known are citations, .*pubmed"),
        ("zzz", "known are citations, .*pubmed"),
    ],
)
def test_unknown_name(name, nearest):
    with pytest.raises(ValueError, match=f"^unknown graphs data set '{name}'; {nearest}"):
        load_graph(name)


def test_listed_names_are_unique_and_known():
    names = list_graphs()
    assert len(set(names)) == len(names) == 12
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

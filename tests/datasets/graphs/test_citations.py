"""The built-in graph: its census, and that it is the same everywhere."""

import hashlib

import pytest

from comhe.datasets import describe, load_graph

from .test_graph import check


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

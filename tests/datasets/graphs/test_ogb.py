"""OGB's node sets through its loader: a stand-in of that name, because the package is an extra."""

import sys
import types

import numpy as np
import pytest

from comhe.datasets import license_of, load_graph
from comhe.errors import DataError, UsageError


class Stand:
    def __init__(self, name, root):
        assert name == "ogbn-arxiv"
        self.root = root

    def __getitem__(self, index):
        edges = np.array([[0, 1, 2], [1, 2, 3]])
        graph = {"edge_index": edges, "node_feat": -np.eye(4, dtype=np.float32), "num_nodes": 4, "edge_feat": None}
        return graph, np.array([[0], [1], [0], [1]])

    def get_idx_split(self):
        return {"train": np.array([0, 1]), "valid": np.array([2]), "test": np.array([3])}


@pytest.fixture
def ogb(monkeypatch):
    module = types.ModuleType("ogb.nodeproppred")
    module.NodePropPredDataset = Stand
    monkeypatch.setitem(sys.modules, "ogb", types.ModuleType("ogb"))
    monkeypatch.setitem(sys.modules, "ogb.nodeproppred", module)
    return module


def test_its_features_split_and_both_directions_of_its_edges(ogb, tmp_path):
    graph = load_graph("ogbn-arxiv", tmp_path)
    assert graph.features.to_dense().diagonal().tolist() == [-1] * 4
    assert graph.edge_index.tolist() == [[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]]
    assert (graph.train.tolist(), graph.val.tolist(), graph.test.tolist()) == ([0, 1], [2], [3])
    assert license_of("ogbn-arxiv").startswith("ODC-BY")


def test_a_missing_package_and_a_failing_loader_are_one_line(ogb, monkeypatch, tmp_path):
    monkeypatch.setattr(ogb, "NodePropPredDataset", lambda **_: 1 / 0)
    with pytest.raises(DataError, match=r"ogbn-arxiv: OGB's loader failed in .*: division by zero"):
        load_graph("ogbn-arxiv", tmp_path)
    monkeypatch.setitem(sys.modules, "ogb.nodeproppred", None)
    with pytest.raises(UsageError, match=r"not installed: pip install 'comhe\[ogb\]'"):
        load_graph("ogbn-arxiv", tmp_path)

"""OGB's node sets through its loader: a stand-in of that name, because the package is an extra."""

import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from comhe.datasets import license_of, load_graph
from comhe.errors import DataError, UsageError


class Stand:
    def __init__(self, name, root):
        assert name == "ogbn-arxiv"
        self.root = f"{root}/ogbn_arxiv"
        self.pre_process()

    def pre_process(self):
        edges = np.array([[0, 1, 2], [1, 2, 3]])
        self.graph = {"edge_index": edges, "node_feat": -np.eye(4, dtype=np.float32), "num_nodes": 4, "edge_feat": None}
        self.labels = np.array([[0], [1], [0], [1]])
        file = Path(self.root, "processed", "data_processed")
        assert not file.exists(), "torch.load of it fails"
        file.parent.mkdir(parents=True)
        torch.save({"graph": self.graph, "labels": self.labels}, file, pickle_protocol=4)

    def __getitem__(self, index):
        return self.graph, self.labels

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


def test_the_file_that_ogb_wrote_is_read_the_second_time(ogb, tmp_path):
    first, second = (load_graph("ogbn-arxiv", tmp_path) for _ in range(2))
    assert second.features.to_dense().equal(first.features.to_dense())
    assert (second.edge_index.equal(first.edge_index), second.labels.tolist()) == (True, [0, 1, 0, 1])
    file = tmp_path / "ogbn_arxiv/processed/data_processed"
    for content in (b"", file.read_bytes()[:-30], pickle.dumps([1])):
        file.write_bytes(content)
        with pytest.raises(DataError, match=f"^{file}: .*; move it away, and OGB makes it again"):
            load_graph("ogbn-arxiv", tmp_path)


def test_a_missing_package_and_a_failing_loader_are_one_line(ogb, monkeypatch, tmp_path):
    monkeypatch.setattr(Stand, "pre_process", lambda self: 1 / 0)
    with pytest.raises(DataError, match=r"ogbn-arxiv: OGB's loader failed in .*: division by zero"):
        load_graph("ogbn-arxiv", tmp_path)
    monkeypatch.setitem(sys.modules, "ogb.nodeproppred", None)
    with pytest.raises(UsageError, match=r"not installed: pip install 'comhe\[ogb\]'"):
        load_graph("ogbn-arxiv", tmp_path)

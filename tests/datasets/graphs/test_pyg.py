"""Files of PyTorch Geometric's ``Data``, with and without PyTorch Geometric."""

import datetime
import os
import sys

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data, HeteroData, InMemoryDataset

from comhe.datasets import Graph
from comhe.datasets.graphs.pyg import read_pt
from comhe.errors import DataError


@pytest.fixture
def data():
    return Data(x=torch.eye(4), edge_index=torch.tensor([[0, 1, 2], [1, 2, 3]]), y=torch.tensor([0, 1, 0, 1]))


def test_a_data_in_every_form(tmp_path, data, monkeypatch):
    torch.save(data, tmp_path / "plain.pt")
    data.node_attrs(), data.edge_attrs()  # they leave caches
    torch.save(data, tmp_path / "cached.pt")
    torch.save(data.to_dict(), tmp_path / "dict.pt")
    InMemoryDataset.save([data], tmp_path / "processed.pt")
    files = sorted(tmp_path.iterdir())
    for file in files:
        found = read_pt(file)
        assert found["x"].equal(data.x), file
        assert found["edge_index"].equal(data.edge_index), file
    for name in [name for name in sys.modules if name.partition(".")[0] == "torch_geometric"]:
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    assert [sorted(read_pt(file)) for file in files] == [["edge_index", "x", "y"]] * 4


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_arrays_in_every_protocol(tmp_path, data, protocol, zipped):
    how = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": zipped}
    other = Data(x=data.x.numpy(), edge_index=data.edge_index, y=data.y.numpy().astype(np.int8))
    other.name, other.when, other.best, other.sizes = "a graph", datetime.date(2020, 1, 2), np.float64(0.5), [1, 2]
    for content in (other, other.to_dict(), (other, None)):
        torch.save(content, tmp_path / "graph.pt", **how)
        found = read_pt(tmp_path / "graph.pt")
        assert found["x"].equal(data.x)
        assert found["y"].tolist() == data.y.tolist()
        assert found["edge_index"].equal(data.edge_index)
        assert (found["name"], found["sizes"]) == ("a graph", [1, 2])
        assert found.keys().isdisjoint({"when", "best"})


def test_sparse_features(tmp_path, data):
    for x in (data.x.to_sparse(), data.x.to_sparse_csr(), data.x.to_sparse_csc()):
        torch.save(Data(x=x, edge_index=data.edge_index, y=data.y), tmp_path / "graph.pt", pickle_protocol=4)
        found = read_pt(tmp_path / "graph.pt")["x"]
        assert found.layout == x.layout
        assert found.to_dense().equal(data.x)


def test_tensors_in_a_dictionary_of_splits_and_in_a_pair_of_ends(tmp_path, data):
    split = {"train": torch.tensor([0]), "valid": np.array([1]), "test": [2, 3]}
    for content in ({**data.to_dict(), "split_idx": split}, Data(**data.to_dict(), split_idx=split)):
        torch.save(content, tmp_path / "graph.pt")
        graph = Graph.from_pyg(read_pt(tmp_path / "graph.pt"))
        assert [part.tolist() for part in (graph.train, graph.val, graph.test)] == [[0], [1], [2, 3]]
    torch.save({"feat": data.x, "edges": tuple(data.edge_index)}, tmp_path / "graph.pt")
    graph = Graph.from_fields("mine", read_pt(tmp_path / "graph.pt"), "", labeled=False)
    assert graph.edge_index.equal(data.edge_index)
    torch.save({"x": data.x, "edges": (torch.zeros(1).expand(1 << 40), data.y)}, tmp_path / "graph.pt")
    with pytest.raises(DataError, match="'edges' is not a tensor that is stored in full"):
        read_pt(tmp_path / "graph.pt")


@pytest.mark.parametrize("protocol", [2, 4])
def test_lists_of_scalars_of_numpy(tmp_path, data, protocol):
    words, masks = ("train", "val", "test"), np.eye(3, 4, dtype=bool)
    given = {"x": data.x, "edge_index": [list(ends) for ends in data.edge_index.numpy()], "y": list(data.y.numpy())}
    splits = (
        {"split": list(np.array([*words, ""])), "node_names": list(np.arange(4))},
        {f"{word}_mask": list(mask) for word, mask in zip(words, masks, strict=True)},
        {"split_idx": {word: list(np.flatnonzero(mask)) for word, mask in zip(words, masks, strict=True)}},
    )
    for split in splits:
        content = {np.str_(key): value for key, value in (given | split).items()}
        torch.save(content, tmp_path / "graph.pt", pickle_protocol=protocol)
        graph = Graph.from_pyg(read_pt(tmp_path / "graph.pt"))
        assert (graph.edge_index.tolist(), graph.labels.tolist()) == (data.edge_index.tolist(), data.y.tolist())
        assert (graph.val.tolist(), graph.test.tolist()) == ([1], [2])


class Set(InMemoryDataset):
    def __init__(self, graphs):
        super().__init__()
        self.data, self.slices = self.collate(graphs)


def test_a_batch_of_one_graph_is_this_graph(tmp_path, data):
    torch.save(Batch.from_data_list([data]), tmp_path / "graph.pt")
    assert read_pt(tmp_path / "graph.pt")["edge_index"].equal(data.edge_index)


class Runs:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_nothing_in_a_file_runs_and_the_fault_is_one_line(tmp_path, data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hetero = HeteroData()
    hetero["a"].x = data.x
    InMemoryDataset.save([data, data], tmp_path / "several.pt")
    for name, content, fault in (
        ("runs.pt", {"x": data.x, "y": Runs()}, r"'y' is a \w+\.mkdir, not an array"),
        (
            "words.pt",
            {"x": data.x, "y": np.array(["a", "b"])},
            r"'y' is a .*, not an array of numbers; save words as a list, by \.tolist",
        ),
        ("split.pt", {"x": data.x, "split": np.array(["a"], object)}, "'split' is a .*; save words as a list"),
        ("hetero.pt", hetero, "its nodes are of several kinds; save HeteroData.to_homogeneous"),
        ("list.pt", [1, 2], "has a int, not a Data"),
        ("empty.pt", {}, "has no tensors, but nothing"),
        ("views.pt", {"x": torch.zeros(1).expand(1 << 40)}, "'x' is not a tensor that is stored in full"),
        ("heteros.pt", Batch.from_data_list([hetero, hetero]), "its nodes are of several kinds"),
        (
            "batch.pt",
            Batch.from_data_list([data, data]),
            "a batch of several graphs; save the one to train on by itself",
        ),
        ("set.pt", Set([data]), r"has a data set, Set, not a graph of it; save dataset\[0\]"),
        ("several.pt", None, "a data set of several graphs"),
    ):
        if content is not None:
            torch.save(content, name)
        with pytest.raises(DataError, match=f"^{name}: .*{fault}") as error:
            read_pt(tmp_path.joinpath(name).relative_to(tmp_path))
        assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(DataError, match="no such file"):
        read_pt(tmp_path / "none.pt")


@pytest.mark.parametrize("wrap", [list, tuple])
@pytest.mark.parametrize("as_dict", [True, False])
def test_of_several_graphs_none_is_taken_in_silence(tmp_path, wrap, as_dict):
    data = Data(x=torch.eye(4), edge_index=torch.tensor([[0, 1], [1, 0]]), y=torch.tensor([0, 1, 0, 1]))
    one = data.to_dict() if as_dict else data
    torch.save(wrap([one, one]), tmp_path / "a.pt")
    with pytest.raises(DataError, match=r"a\.pt: a data set of several graphs") as error:
        read_pt(tmp_path / "a.pt")
    assert "not a Data" not in str(error.value)
    torch.save(wrap([one]), tmp_path / "a.pt")
    assert read_pt(tmp_path / "a.pt")["x"].equal(data.x)

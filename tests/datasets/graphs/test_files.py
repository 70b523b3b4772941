"""``graph:PATH`` in every form of a file, and ``Graph.from_pyg``: one graph, whatever it comes from."""

import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from comhe.datasets import DataError, Graph, MissingDataError, describe, load_data, load_graph
from comhe.datasets.graphs.files import load_unlabeled
from comhe.train import fit, get_recipe

N = 30


@pytest.fixture
def data():
    torch.manual_seed(0)
    y = torch.arange(N) % 3
    edges = torch.cat([torch.randint(N, (2, 60)), torch.tensor([[0, 0, 4], [1, 1, 4]])], 1)
    return Data(x=torch.randn(N, 4), edge_index=edges, y=y, edge_weight=torch.rand(63))


@pytest.fixture(params=["pt", "npz", "csv"])
def path(request, data, tmp_path):
    path = tmp_path / f"mine.{request.param}"
    if request.param == "pt":
        torch.save(data, path)
    elif request.param == "npz":
        np.savez(path, **{key: value.numpy() for key, value in data.to_dict().items()})
    else:
        path.mkdir()
        np.savetxt(path / "features.csv", data.x.numpy(), delimiter=",", fmt="%.9g")
        rows = [(*pair, w) for pair, w in zip(data.edge_index.T.tolist(), data.edge_weight.tolist(), strict=True)]
        np.savetxt(path / "edges.csv", np.array(rows), delimiter=",", fmt=["%d", "%d", "%.9g"])
        np.savetxt(path / "labels.csv", data.y.numpy(), fmt="%d")
    return path


def test_every_form_is_the_same_graph(data, path):
    graph, direct = load_graph(f"graph:{path}"), Graph.from_pyg(data)
    for name in ("features", "edge_index", "labels", "edge_weight", "train", "val", "test"):
        torch.testing.assert_close(getattr(graph, name), getattr(direct, name))
    assert graph.edge_index.equal(data.edge_index), "as given: with the loop and the duplicate, in this order"
    assert graph.features.equal(data.x)
    assert (len(graph.train), len(graph.val), len(graph.test)) == (18, 6, 6)
    census = describe(graph)
    assert (census["self-loops"], census["edge weights"]) == (
        int((data.edge_index[0] == data.edge_index[1]).sum()),
        True,
    )
    other = load_data(f"graph-random3:{path}")
    assert "random3" in other.source
    assert not other.train.equal(graph.train)
    both = load_graph(f"graph-undirected:{path}")
    keep = data.edge_index[0] != data.edge_index[1]
    expected = to_undirected(data.edge_index[:, keep], data.edge_weight[keep], N, reduce="mean")
    assert both.edge_index.equal(expected[0])
    torch.testing.assert_close(both.edge_weight, expected[1])


@pytest.mark.filterwarnings("ignore:SAGE")
@pytest.mark.parametrize("model", ["gcn", "sage"])
def test_a_run_on_it_ends(path, model, tmp_path):
    recipe = get_recipe(
        "kipf", model, f"graph:{path}", "rp-comhe", epochs=2, regularizer_options={"dim": 2, "count": 2}
    )
    run = fit(recipe, tmp_path / "run")
    assert run.done
    assert 0 <= run.result()["best"]["test_accuracy"] <= 1


def test_edges_in_one_direction_are_told(data):
    data.edge_index = torch.tensor([[0, 1, 2, 5], [1, 2, 3, 5]])
    data.edge_weight = None
    with pytest.warns(UserWarning, match="graph: every edge goes in one direction only; undirected=True adds"):
        one = Graph.from_pyg(data)
    assert describe(one)["edges in one direction"] == 3
    both = Graph.from_pyg(data, undirected=True)
    assert both.edge_index.tolist() == [[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]]


def test_what_is_not_a_graph_is_one_line(tmp_path):
    with pytest.raises(MissingDataError, match="no such file or folder"):
        load_graph(f"graph:{tmp_path / 'none.pt'}")
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(DataError, match=r"a graph is a \.pt, \.pth, \.npz file, or a folder of CSV files"):
        load_graph(f"graph:{tmp_path / 'a.json'}")
    (tmp_path / "edges.csv").write_text("0,1")
    with pytest.raises(DataError, match=rf"edges\.csv: a graph is a .*; name its folder: graph:{tmp_path}$"):
        load_graph(f"graph:{tmp_path / 'edges.csv'}")
    with pytest.raises(DataError, match="graph: a list is not a graph with one kind of nodes"):
        Graph.from_pyg([1])
    with pytest.raises(DataError, match=r"node \d+ is in both \w+ and \w+"):
        Graph.from_pyg(
            {"x": np.eye(3), "edge_index": np.zeros((2, 0)), "y": [0, 1, 0], "train": [0], "val": [1], "test": [0]}
        )


@pytest.mark.parametrize("axis", [0, 1])
def test_one_of_several_splits_by_its_name(data, tmp_path, axis):
    numbers = torch.arange(N)
    masks = {f"{s}_masks": np.stack([(numbers % 5 == (j + k) % 5).numpy() for k in range(3)], axis) for j, s in
             enumerate(("train", "val", "test"))}  # fmt: skip
    arrays = {key: value.numpy() for key, value in data.to_dict().items()}
    np.savez(tmp_path / "a.npz", **arrays, **masks, pos=np.zeros((N, 2)))
    with pytest.warns(UserWarning, match="not used: pos"):
        graph = load_graph(f"graph-split2:{tmp_path / 'a.npz'}")
    assert graph.train.equal(numbers[numbers % 5 == 2])
    assert graph.test.equal(numbers[numbers % 5 == 4])
    assert graph.source.endswith("its own split, number 2 of 0..2")
    with pytest.warns(UserWarning, match="has 3 splits, of which the first is used"):
        first = load_graph(f"graph-undirected:{tmp_path / 'a.npz'}")
    assert first.train.equal(numbers[numbers % 5 == 0])
    with pytest.raises(DataError, match="has the splits 0 to 2, but not 3"):
        load_graph(f"graph-split3:{tmp_path / 'a.npz'}")


def test_attributes_that_are_not_used_are_told(data):
    data.edge_attr, data.edge_weight = data.edge_weight, None
    with pytest.warns(UserWarning, match=r"graph: not used: edge_attr \(name it edge_weight if it is one\)"):
        assert Graph.from_pyg(data).edge_weight is None


@pytest.mark.parametrize("labels", ["none", "unknown", "one"])
def test_a_graph_to_predict_needs_no_labels(data, path, labels):
    """Nor a split that could be drawn among them."""
    expected = data.edge_index, data.edge_weight, data.x
    y = torch.full((N,), -1)
    y[: labels == "one"] = 0
    if path.is_dir():
        (path / "labels.csv").unlink()
        if labels != "none":
            np.savetxt(path / "labels.csv", y, fmt="%d")
    else:
        fields = {key: value for key, value in data.to_dict().items() if key != "y"}
        fields |= {} if labels == "none" else {"y": y}
        if path.suffix == ".pt":
            torch.save(Data(**fields), path)
        else:
            np.savez(path, **{key: value.numpy() for key, value in fields.items()})
    with pytest.raises(DataError, match=r"has no (y|labels\.csv)|no node has a label|none can be held out"):
        load_graph(f"graph:{path}")
    for name in (str(path), f"graph:{path}", f"graph-random3:{path}"):
        graph = load_unlabeled(name)
        for found, wanted in zip((graph.edge_index, graph.edge_weight, graph.features), expected, strict=True):
            torch.testing.assert_close(found, wanted)
        assert len(graph.train) == len(graph.val) == len(graph.test) == graph.num_classes == 0
        assert describe(graph)["unlabeled nodes"] == N
    keep = expected[0][0] != expected[0][1]
    assert load_unlabeled(f"graph-undirected:{path}").edge_index.equal(to_undirected(expected[0][:, keep]))
    assert load_unlabeled("citations") is None


def test_the_share_of_edges_in_one_direction_is_told(data):
    there = torch.arange(9)
    edges = torch.stack((there, there + 1))
    data.edge_index, data.edge_weight = torch.cat((edges, edges[:, :3].flip(0)), 1), None
    with pytest.warns(UserWarning, match="50 % of its edges go in one direction only; undirected=True adds"):
        Graph.from_pyg(data)


@pytest.mark.parametrize(
    ("factor", "first", "said"), [(1, 1, "its 4 classes, no node has 0;"), (2, 0, "5 .* has 1, 3;")]
)
def test_classes_without_nodes_are_told(data, factor, first, said):
    data.y = factor * data.y + first
    with pytest.warns(UserWarning, match=said):
        Graph.from_pyg(data, undirected=True)


def test_classes_without_nodes_to_train_are_told(data):
    place = torch.arange(len(data.y)) // 3 % 3
    data.train_mask, data.val_mask, data.test_mask = (place == 0) & (data.y != 1), place == 1, place == 2
    with pytest.warns(UserWarning, match="no node in train has class 1, so no network can learn to tell it"):
        Graph.from_pyg(data, undirected=True)

"""Predictions for files and nodes, by weights of any source."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch_geometric.data import Data

from comhe.datasets import load_graph
from comhe.errors import ComheWarning, DataError, UsageError
from comhe.train import fit, get_recipe, open_weights, predict_files, predict_nodes
from comhe.train.predict import files_of, open_graph


def picture(path, seed):
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 50, 3), "uint8")).save(path)


def test_a_run_predicts_as_its_published_weights_do(tmp_path):
    run = fit(get_recipe("kipf", "gcn", "citations", "none", epochs=2), tmp_path / "run")
    graph, weights = load_graph("citations"), open_weights(run.folder)
    found = list(predict_nodes(weights, graph, top=1))
    right = [int(found[node].classes[0]) == graph.labels[node] for node in graph.test.tolist()]
    assert sum(right) / len(right) == run.result()["best"]["test_accuracy"]
    assert [each.name for each in predict_nodes(weights, graph, nodes=[5, 2])] == ["5", "2"]


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_nodes_are_chosen_by_numbers_or_a_mask_of_any_kind(kind):
    weights, graph = open_weights("gcn.citations-none"), load_graph("citations")
    mask = [node in (2, 5) for node in range(graph.num_nodes)]
    for nodes, names in (([5, 2], ["5", "2"]), ([5], ["5"]), ([], []), (mask, ["2", "5"])):
        assert [each.name for each in predict_nodes(weights, graph, top=1, nodes=kind(nodes))] == names
    assert [each.name for each in predict_nodes(weights, graph, top=1, nodes={7})] == ["7"]
    with pytest.raises(UsageError, match="nodes must be numbers of nodes or a mask, not 'ab'"):
        predict_nodes(weights, graph, nodes="ab")


def test_files_are_predicted_alone_as_in_a_folder(tmp_path):
    weights = open_weights("resnet8.glyphs-none")
    for seed in range(3):
        picture(tmp_path / f"{seed}.png", seed)
    (tmp_path / "1.png").write_bytes(b"not a picture")
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "notes.md").write_text("not an input")
    found = {prediction.name: prediction for prediction in predict_files(weights, [tmp_path], top=40)}
    assert {name.removeprefix(str(tmp_path)) for name in found} == {"/0.png", "/1.png", "/2.png"}
    bad = found.pop(str(tmp_path / "1.png"))
    assert not bad.classes
    assert "1.png" in bad.error
    for path in (tmp_path / "0.png", str(tmp_path / "0.png")):  # one path, not its characters
        assert [each.name for each in predict_files(weights, path)] == [str(path)]
    for name, prediction in found.items():
        probabilities = weights.predict(name)[0]
        assert len(prediction.classes) == len(probabilities) == 36
        assert prediction.classes[0] == weights.classes[probabilities.argmax()]
        assert torch.tensor(prediction.probabilities).allclose(probabilities.sort(descending=True).values, atol=1e-6)


def test_a_turned_cloud_is_predicted_as_it_stood(tmp_path):
    weights = open_weights("pointnet.solids-none")
    cloud = np.random.default_rng(0).normal(size=(1024, 3)) * [1, 2, 3]
    np.save(tmp_path / "upright.npy", cloud)
    np.save(tmp_path / "turned.npy", cloud[:, [0, 2, 1]] * [1, -1, 1])  # what was up, y, is z now
    (upright,) = predict_files(weights, [tmp_path / "upright.npy"])
    (turned,) = predict_files(weights, [tmp_path / "turned.npy"], up="z")
    (wrong,) = predict_files(weights, [tmp_path / "turned.npy"])
    difference = np.subtract(turned.probabilities[0], upright.probabilities[0])
    assert turned.classes[0] == upright.classes[0]
    assert abs(difference) < abs(wrong.probabilities[0] - upright.probabilities[0]) or wrong.classes != upright.classes


def test_mistakes_say_what_to_do(tmp_path):
    with pytest.raises(UsageError, match="give a graph to predict_nodes"):
        list(predict_files(open_weights("gcn.cora-none"), [tmp_path]))
    with pytest.raises(UsageError, match="give files to predict_files"):
        predict_nodes(open_weights("pointnet.solids-none"), load_graph("citations"))
    with pytest.raises(UsageError, match=r"node index 2500 is outside \[0, 2500\)"):
        predict_nodes(open_weights("gcn.citations-none"), load_graph("citations"), nodes=[2500])
    with pytest.raises(UsageError, match=r"up='z' is for point clouds, which resnet8\.glyphs-none does not take"):
        list(predict_files(open_weights("resnet8.glyphs-none"), [tmp_path], up="z"))
    (tmp_path / "a.xyz").write_text("0 0 0\n1 1 1\n")
    with pytest.raises(UsageError, match="up must be 'x' or 'y' or 'z', not 'w'"):
        next(predict_files(open_weights("pointnet.solids-none"), [tmp_path], up="w"))
    with pytest.raises(UsageError, match=r"top must be a whole number of at least 1, not 1\.5"):
        next(predict_files(open_weights("pointnet.solids-none"), [tmp_path], top=1.5))
    with pytest.raises(UsageError, match=r"top must be a whole number of at least 1, not 1\.5"):
        predict_nodes(open_weights("gcn.citations-none"), load_graph("citations"), top=1.5)
    (tmp_path / "a.xyz").unlink()
    (tmp_path / "a.heic").write_bytes(b"")
    with pytest.raises(ValueError, match=r"contains no file of a shape \(.*\), only 1 of \.heic"):
        files_of(tmp_path, "points")


def test_files_of_another_kind_are_passed_over_and_counted(tmp_path):
    picture(tmp_path / "a.png", 0)
    for name in ("notes.txt", "cloud.off", "b.heic", "c.heic", "README"):
        (tmp_path / name).write_text("")
    with pytest.warns(UserWarning, match=r"5 files are not of an image and passed over: 2 of \.heic, 1 of "):
        (found,) = predict_files(open_weights("resnet8.glyphs-none"), [tmp_path])
    assert not found.error


def test_a_graph_without_labels_is_predicted_in_every_form(tmp_path):
    weights, graph = open_weights("gcn.citations-none"), load_graph("citations")
    expected = torch.tensor([each.probabilities for each in predict_nodes(weights, graph)])
    data = Data(x=(graph.features.to_dense() > 0).float(), edge_index=graph.edge_index)
    torch.save(data, tmp_path / "a.pt")
    np.savez(tmp_path / "a.npz", x=data.x.numpy(), edge_index=data.edge_index.numpy(), y=np.full(graph.num_nodes, -1))
    for name in ("a.pt", "a.npz"):
        found = predict_nodes(weights, open_graph(weights, f"graph:{tmp_path / name}"))
        torch.testing.assert_close(torch.tensor([each.probabilities for each in found]), expected)
    (found,) = predict_nodes(weights, data, nodes=[3])
    torch.testing.assert_close(torch.tensor(found.probabilities), expected[3])


def test_nodes_are_told_by_their_names(tmp_path):
    weights, graph = open_weights("gcn.citations-none"), load_graph("citations")
    names = [f"paper {7 * node % graph.num_nodes}" for node in range(graph.num_nodes)]
    fields = {"x": graph.features.to_dense(), "edge_index": graph.edge_index, "node_names": names}
    expected = [each.probabilities for each in predict_nodes(weights, graph)]
    found = list(predict_nodes(weights, fields))
    assert [each.name for each in found] == names
    torch.testing.assert_close(torch.tensor([each.probabilities for each in found]), torch.tensor(expected))
    assert [each.name for each in predict_nodes(weights, fields, nodes=[3, 2])] == ["paper 21", "paper 14"]
    rows = [",".join(["id", *map(str, range(graph.num_features))])]
    rows += [",".join([name, *map(str, row)]) for name, row in zip(names, fields["x"].tolist(), strict=True)]
    (tmp_path / "features.csv").write_text("\n".join(rows))
    pairs = [f"{names[source]},{names[target]}" for source, target in graph.edge_index.T.tolist()]
    (tmp_path / "edges.csv").write_text("\n".join(["source,target", *pairs]))
    (found,) = predict_nodes(weights, open_graph(weights, f"graph:{tmp_path}"), nodes=[3])
    assert found.name == "paper 21"
    torch.testing.assert_close(torch.tensor(found.probabilities), torch.tensor(expected[3]))


def test_features_are_known_by_their_names(tmp_path):
    """A table whose columns are in another order is the same table; one that lacks a column is not."""
    draw = np.random.default_rng(0)
    x, edges = draw.random((40, 3)).round(3), draw.integers(40, size=(90, 2))

    def write(name, columns):
        folder = tmp_path / name
        folder.mkdir()
        order = [["red", "green", "blue"].index(each) if each != "black" else 0 for each in columns]
        rows = [",".join(columns)] + [",".join(map(str, row)) for row in x[:, order]]
        (folder / "features.csv").write_text("\n".join(rows))
        (folder / "edges.csv").write_text("source,target\n" + "\n".join(f"{a},{b}" for a, b in edges))
        (folder / "labels.csv").write_text("y\n" + "\n".join(str(int(row[0] > 0.5)) for row in x))
        return folder

    places = [write("as-trained", ["red", "green", "blue"]), write("turned", ["blue", "red", "green"])]
    recipe = get_recipe("kipf", "gcn", f"graph-undirected:{places[0]}", "none", epochs=20, hidden_channels=8)
    weights = open_weights(fit(recipe, runs=tmp_path / "runs").folder)
    assert weights.transforms().names == ("red", "green", "blue")
    trained = [
        each.probabilities for each in predict_nodes(weights, open_graph(weights, f"graph-undirected:{places[0]}"))
    ]
    with pytest.warns(ComheWarning, match="turned: its features are put in the order"):
        turned = [
            each.probabilities for each in predict_nodes(weights, open_graph(weights, f"graph-undirected:{places[1]}"))
        ]
    assert turned == trained
    other = open_graph(weights, f"graph-undirected:{write('other', ['red', 'green', 'black'])}")
    with pytest.raises(DataError, match="other: has no feature blue, which the network was trained on"):
        next(predict_nodes(weights, other))

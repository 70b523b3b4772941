"""Own data that have changed under the same name are noticed."""

import numpy as np
import pytest
import torch
from PIL import Image

from comhe.datasets import Graph, register_dataset
from comhe.datasets.registry import unregister_dataset
from comhe.errors import RunError
from comhe.train import fit, get_recipe, make_task
from comhe.train.runs.fingerprint import data_digest


def test_the_digest_follows_names_and_contents(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1.xyz").write_text("0 0 0")
    (tmp_path / "b" / "2.xyz").write_text("1 1 1")
    first = data_digest(f"folder:{tmp_path}")
    assert first
    assert first == data_digest(f"folder-up-y:{tmp_path}")
    (tmp_path / ".DS_Store").write_text("what file managers leave does not count")
    assert data_digest(f"folder:{tmp_path}") == first
    (tmp_path / "b" / "2.xyz").write_text("1 1 20")
    second = data_digest(f"folder:{tmp_path}")
    assert second != first
    (tmp_path / "b" / "2.xyz").rename(tmp_path / "b" / "3.xyz")
    assert data_digest(f"folder:{tmp_path}") not in (first, second)
    for name in ("cora", "cora-random3", f"graph:{tmp_path / 'none'}"):
        assert data_digest(name) == ""


def test_a_run_is_not_found_again_for_other_data(tmp_path):
    path = tmp_path / "a.npz"

    def write(features):
        y = np.arange(20) % 2
        np.savez(path, x=np.eye(20, features), edge_index=[[*range(20)], [*range(20)]], y=y)

    write(20)
    recipe = get_recipe("kipf", "gcn", f"graph:{path}", "none", epochs=1)
    run = fit(recipe, runs=tmp_path / "runs")
    assert fit(recipe, runs=tmp_path / "runs").folder == run.folder
    write(21)
    with pytest.raises(RunError, match=r"the files of graph:.*a\.npz have changed since .*seed0 was trained; choose"):
        fit(recipe, runs=tmp_path / "runs")
    path.unlink()  # a finished run stands on its own
    run.check(recipe)


@pytest.mark.parametrize("domain", ["graphs", "images", "points"])
def test_a_task_reads_what_the_files_hold_now(domain, tmp_path, monkeypatch):
    """In one process, as a notebook is: after a change, and in another folder under the same relative path."""

    def features(folder, number):
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        values = np.arange(16.0).reshape(16, 1) % 4 + number
        if domain == "graphs":
            np.savez("mine.npz", x=values, edge_index=[[*range(16)], [*range(16)]], y=np.arange(16) % 2)
            data, model = "graph:mine.npz", "gcn"
        for i, value in enumerate(values[:, 0] if domain != "graphs" else ()):
            place = folder / "mine" / ("train" if i < 8 else "test") / f"class{i % 2}"
            place.mkdir(parents=True, exist_ok=True)
            if domain == "images":
                Image.fromarray(np.full((8, 8, 3), int(value), np.uint8)).save(place / f"{i}.png")
                data, model = "folder:mine", "cnn6"
            else:
                np.save(place / f"{i}.npy", np.random.default_rng(int(value)).normal(size=(2048, 3)))
                data, model = "folder:mine", "pointnet_t"
        task = make_task(get_recipe(None, model, data, "none"))
        if domain == "graphs":
            return task.graph.features.to_dense().tolist()
        return task.data.train.pixels.tolist() if domain == "images" else task.data.train.points.tolist()

    found = [features(tmp_path / name, number) for name, number in (("a", 1), ("a", 9), ("b", 1), ("c", 5))]
    assert found[0] == found[2]
    assert found[1] != found[0] != found[3] != found[1]


def test_a_task_reads_what_was_registered_last(request):
    request.addfinalizer(lambda: unregister_dataset("mine", "graphs"))
    found = []
    for number in (1.0, 3.0):

        def load(number=number):
            x, edges, nodes = torch.tensor([[number, 1.0]] * 8), torch.arange(16).view(2, 8) % 8, torch.arange(8)
            return Graph.from_arrays("mine", x, edges, nodes % 2, nodes[:4], nodes[4:6], nodes[6:])

        load.__qualname__ = "load"  # as at the top of a notebook's cell
        register_dataset("mine", "graphs", load)
        task = make_task(get_recipe(None, "gcn", "mine", "none"))
        found += [task.graph.features.to_dense()[0].tolist()]
    assert found == [[0.5, 0.5], [0.75, 0.25]]

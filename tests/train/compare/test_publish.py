"""From runs to pretrained weights by name, in all three domains, and their metrics computed again."""

import hashlib
import json
import os
import warnings

import pytest
import torch
from safetensors.torch import load_file

from comhe.datasets import AlteredDataWarning, load_data
from comhe.errors import RunError
from comhe.train.cli.main import main
from comhe.train.compare import publish as publishing
from comhe.train.compare.publish import evaluate, halved, publish, recipe_of
from comhe.train.compare.statistics import mean_std
from comhe.train.engine.loop import fit
from comhe.train.graphs import GraphRecipe
from comhe.train.images import ImageRecipe
from comhe.train.points import PointRecipe
from comhe.train.runs.run import Run
from comhe.train.task import make_task
from comhe.zoo import cards, create_model, get_weights, list_weights, model_domain

RECIPES = {
    "graphs": GraphRecipe(recipe="test", data="citations", epochs=3, regularizer="hs-mhe", dropout=0.4),
    "points": PointRecipe(recipe="test", data="solids", points=16, epochs=1, batch_size=256, augmentation="none"),
    "images": ImageRecipe(recipe="test", model="resnet8", epochs=2, batch_size=8, lr=0.02, normalization="centered"),
}


def trained(base, recipe, seeds, root=None):
    runs = [Run(base / recipe.name / f"seed{seed}") for seed in range(seeds)]
    for seed, run in enumerate(runs):
        fit(make_task(recipe.replace(seed=seed), root), run)
    return runs


@pytest.fixture(scope="module", params=RECIPES)
def published(request, folder, tmp_path_factory):
    """A domain's runs, and the card made of them by the command."""
    base = tmp_path_factory.mktemp(request.param)
    recipe = RECIPES[request.param]
    if request.param == "images":
        recipe = recipe.replace(data=f"folder:{folder}")
    runs = trained(base / "runs", recipe, 1 if request.param == "points" else 3, str(base))
    argv = ["publish", *(str(run.folder) for run in runs), "--output", str(base / "weights"), "--suffix", "test"]
    assert main([*argv, "--data-root", str(base)]) == 0
    (path,) = (base / "weights").glob("*.json")
    return runs, path


def test_the_card_says_what_the_weights_are(published):
    runs, path = published
    card = json.loads(path.read_text())
    results = [run.result() for run in runs]
    best = max(range(len(runs)), key=lambda i: (results[i]["best"]["val_accuracy"], -results[i]["best"]["val_loss"]))
    assert card["seed"] == best
    assert card["recipe"] == json.loads((runs[best].folder / "recipe.json").read_text())
    assert card["name"] == path.stem == f"{runs[0].recipe().name}-test"
    file = path.with_name(card["file"])
    assert card["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert card["metrics"]["epoch"] == results[best]["best"]["epoch"]
    for epoch in ("last", "best"):
        mean, std = mean_std([result[epoch]["test_accuracy"] for result in results])
        said = card["seeds"][epoch]["test_accuracy"]
        assert said["mean"] == mean
        assert said["std"] == (std if len(runs) > 1 else None)
    assert card["seeds"]["n"] == len(runs)
    assert card["commit"] == runs[best].environment()["commit"]
    assert card["data"]["license"] == ("its owner's" if card["model"] == "resnet8" else "MIT, made by this package")
    for layer, energy in results[best]["best"]["energy"].items():
        assert card["energy"][layer]["role"] == energy["role"]
        for space in ("full", "half"):
            assert card["energy"][layer][space] == pytest.approx(energy[space], rel=1e-2)  # of rounded weights


def test_the_file_holds_the_best_epochs_weights_rounded(published):
    runs, path = published
    card = json.loads(path.read_text())
    stored, exact = load_file(path.with_name(card["file"])), runs[card["seed"]].weights("best")
    assert stored.keys() == exact.keys()
    half = card["dtype"] != "as trained"
    for name, tensor in exact.items():
        assert stored[name].equal(tensor.half() if half and tensor.is_floating_point() and tensor.dim() > 1 else tensor)


def test_by_name_they_give_the_cards_figures(published, monkeypatch, capsys):
    """The model alone, on inputs that went through the card's own preprocessing, and ``comhe evaluate``."""
    _, path = published
    monkeypatch.setattr(cards, "FOLDER", path.parent)
    weights = get_weights(path.stem)
    model = create_model(weights.model, weights=path.stem.partition(".")[2]).eval()
    monkeypatch.setenv("COMHE_DATA", str(path.parents[1]))
    recipe, transform = recipe_of(weights), weights.transforms()
    data = load_data(recipe.data, domain=model_domain(recipe.model))
    with torch.no_grad():
        if weights.card["preprocessing"]["kind"] == "graphs":
            view, labels = model.prepare(data.edge_index, data.num_nodes, data.test), data.labels[data.test]
            logits = model(view.inputs(transform(data.features)), view)
        else:
            raw, labels = getattr(data.test, "pixels", getattr(data.test, "points", None)), data.test.labels
            logits = torch.cat([model(transform(part)) for part in raw.split(128)])
    accuracy = (logits.argmax(1) == labels).double().mean().item()
    assert accuracy == pytest.approx(weights.card["metrics"]["test"]["accuracy"], abs=2e-3)  # batches differ

    assert main(["list", "weights", weights.model, "--json"]) == 0
    assert [row["weights"] for row in json.loads(capsys.readouterr().out)] == [path.stem]
    assert main(["evaluate", path.stem]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line, split in zip(lines, ("val", "test"), strict=True):
        said = weights.card["metrics"][split]
        assert line.endswith(
            f" {split}: accuracy {100 * said['accuracy']:.2f} %, loss {said['loss']:.4f}, as its card says"
        )
    card = json.loads(path.read_text())
    card["metrics"]["test"]["accuracy"] = 0.0101
    other = path.with_name("other.json")
    other.write_text(json.dumps(card))
    assert main(["evaluate", "other"]) == 0
    assert capsys.readouterr().out.strip().endswith("; its card says 1.01 %")
    other.unlink()
    assert main(["energy", path.stem]) == 0
    assert "neurons" in capsys.readouterr().out


def test_the_best_seed_on_validation_is_taken_whatever_its_test_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(publishing, "_accuracy", lambda *_: 0.6)  # as in the results below
    runs = trained(tmp_path, RECIPES["graphs"], 3)
    for run, (val, loss, test) in zip(runs, ((0.5, 1.0, 0.9), (0.6, 2.0, 0.1), (0.6, 1.5, 0.2)), strict=True):
        result = run.result()
        result["best"] |= {"val_accuracy": val, "val_loss": loss, "test_accuracy": test}
        run.finish(result)
    assert json.loads(publish(runs, tmp_path / "out").read_text())["seed"] == 2
    assert json.loads(publish(runs[:2], tmp_path / "out").read_text())["seed"] == 1


def test_rounding_that_changes_a_figure_is_not_done(tmp_path, monkeypatch):
    runs = trained(tmp_path, RECIPES["graphs"], 1)
    zeros = {name: torch.zeros_like(tensor) for name, tensor in runs[0].weights("best").items()}
    for bad in (zeros, None):
        monkeypatch.setattr(publishing, "halved", lambda state, bad=bad: bad)
        card = json.loads(publish(runs, tmp_path / "out").read_text())
        assert card["dtype"] == "as trained"
        assert card["metrics"]["val"]["accuracy"] == runs[0].result()["best"]["val_accuracy"]
    assert halved({"weight": torch.tensor([[1e5]])}) is None
    assert halved({"running_var": torch.tensor([1e5])})["running_var"] == 1e5


def test_weights_that_have_other_figures_now_are_not_published(tmp_path, monkeypatch):
    (run,) = trained(tmp_path / "runs", RECIPES["graphs"], 1)
    result = run.result()
    result["best"]["val_accuracy"] += 0.1
    (run.folder / "result.json").write_text(json.dumps(result))
    with pytest.raises(
        RunError, match=r"seed0: its weights have .* % on validation now, and had .* train the run again"
    ):
        publish([run], tmp_path / "weights")
    assert not list((tmp_path / "weights").glob("*"))


def test_a_card_says_whether_the_data_were_the_published_ones(tmp_path, monkeypatch):
    def altered(*arguments):
        warnings.warn("other bytes", AlteredDataWarning, stacklevel=2)
        return load_data(*arguments)

    runs = trained(tmp_path, RECIPES["graphs"], 1)
    for load, said in ((altered, False), (load_data, True)):
        monkeypatch.setattr(publishing, "load_data", load)
        assert json.loads(publish(runs, tmp_path / "out").read_text())["data"]["as published"] is said


def test_runs_that_do_not_belong_together(tmp_path, capsys):
    recipe = RECIPES["graphs"]
    runs = trained(tmp_path / "a", recipe, 2) + trained(tmp_path / "b", recipe.replace(lr=0.5), 1)

    def message(*folders):
        assert main(["publish", *map(str, folders), "--output", str(tmp_path / "out")]) == 2
        return capsys.readouterr().err.strip()

    assert "they differ in lr" in message(runs[0].folder, runs[2].folder)
    assert "two of the runs have seed 0" in message(runs[0].folder, runs[0].folder)
    assert "not a finished run" in message(tmp_path / "nothing")
    (runs[1].folder / "result.json").unlink()
    assert "not a finished run" in message(runs[0].folder, runs[1].folder)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [name for name in list_weights() if model_domain(name.split(".")[0]) == "graphs"])
def test_the_packages_weights_give_their_cards_figures(name):
    weights = get_weights(name)
    if weights.card["data"]["name"] != "citations" and not os.environ.get("COMHE_DATA"):
        pytest.skip("COMHE_DATA is not set")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AlteredDataWarning)
        _, figures = evaluate(recipe_of(weights), weights.state_dict())
    for split, said in figures.items():
        assert said["accuracy"] == weights.card["metrics"][split]["accuracy"]

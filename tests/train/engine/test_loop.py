import csv
from itertools import pairwise

import pytest
import torch

from comhe.errors import RunError
from comhe.train.engine import loop
from comhe.train.engine.loop import fit
from comhe.train.graphs import GraphRecipe, GraphTask
from comhe.train.runs.run import Run


def _contents(run: Run) -> tuple:
    weights = [run.weights(which) for which in ("last", "best")]
    return (run.folder / "metrics.csv").read_text(), weights, run.result()["best"], run.result()["last"]


def _same(a: Run, b: Run) -> None:
    rows_a, weights_a, *results_a = _contents(a)
    rows_b, weights_b, *results_b = _contents(b)
    assert rows_a == rows_b
    assert results_a == results_b
    for first, second in zip(weights_a, weights_b, strict=True):
        assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("regularizer", ["none", "rp-comhe", "ap-comhe", "group-comhe"])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, monkeypatch, regularizer):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    options = {"partition": "random"} if regularizer == "group-comhe" else {}
    recipe = GraphRecipe(data="citations", epochs=9, regularizer=regularizer, regularizer_options=options)
    uninterrupted, cut = Run(tmp_path / "uninterrupted"), Run(tmp_path / "cut")
    fit(GraphTask(recipe), uninterrupted)

    def stop(row, epochs):
        if row["epoch"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(GraphTask(recipe), cut, stop)
    assert not cut.done
    fit(GraphTask(recipe), cut)
    _same(uninterrupted, cut)
    assert not (cut.folder / "checkpoint.pt").exists()


def test_patience_ends_a_run_where_validation_stands_still(tmp_path, monkeypatch, recipe):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    patient, cut = Run(tmp_path / "patient"), Run(tmp_path / "cut")
    recipe = recipe.replace(epochs=200, patience=3)
    result = fit(GraphTask(recipe), patient)
    with (patient.folder / "metrics.csv").open() as file:
        rows = [(float(row["val_accuracy"]), -float(row["val_loss"])) for row in csv.DictReader(file)]
    at_best = [i for i, row in enumerate(rows) if any(row[k] >= max(each[k] for each in rows[: i + 1]) for k in (0, 1))]
    assert len(rows) == at_best[-1] + 4 < 200, "three epochs after accuracy or loss was last at its best"
    assert all(later - earlier <= 3 for earlier, later in pairwise(at_best))
    assert result["last"]["epoch"] > result["best"]["epoch"] + 3, "the loss was better after the highest accuracy"

    def stop(row, epochs):
        if row["epoch"] == result["last"]["epoch"]:  # nothing but the end is left
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(GraphTask(recipe), cut, stop)
    fit(GraphTask(recipe), cut)
    _same(patient, cut)


def test_the_seed_decides_everything(tmp_path, recipe):
    runs = [Run(tmp_path / name) for name in ("a", "b", "c")]
    fit(GraphTask(recipe), runs[0])
    torch.rand(5)  # what else the process draws does not matter
    fit(GraphTask(recipe), runs[1])
    fit(GraphTask(recipe.replace(seed=1)), runs[2])
    _same(runs[0], runs[1])
    assert (runs[0].folder / "metrics.csv").read_text() != (runs[2].folder / "metrics.csv").read_text()


def test_the_regularizer_leaves_initialization_and_dropout_alone(tmp_path, recipe):
    """With weight 0 it is the baseline bit for bit: comparisons on one seed are paired."""
    without = recipe.replace(regularizer="none", regularizer_options={})
    idle = recipe.replace(weight=0.0, output_weight=0.0)
    for name, one in (("without", without), ("idle", idle)):
        fit(GraphTask(one), Run(tmp_path / name))
    _same(Run(tmp_path / "without"), Run(tmp_path / "idle"))


def test_the_regularizer_lowers_the_energy(tmp_path, recipe):
    energies = {}
    for name, weight in (("none", 0.0), ("hs-mhe", 10.0)):
        changed = recipe.replace(
            regularizer=name, regularizer_options={}, epochs=20, weight=weight, output_weight=weight
        )
        result = fit(GraphTask(changed), Run(tmp_path / name))
        energies[name] = result["last"]["energy"]["convs.0.lin"]["half"]
    assert energies["hs-mhe"] < energies["none"]


def test_metrics_are_per_epoch_and_the_selection_is_on_validation(tmp_path, recipe):
    run = Run(tmp_path)
    result = fit(GraphTask(recipe), run)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [int(row["epoch"]) for row in rows] == list(range(recipe.epochs))
    assert not any("test" in name for name in rows[0])
    accuracies = [float(row["val_accuracy"]) for row in rows]
    assert result["best"]["val_accuracy"] == max(accuracies)
    assert accuracies[result["best"]["epoch"]] == max(accuracies)


def test_a_folder_of_another_recipe_is_refused_and_says_what_differs(tmp_path, recipe):
    run = Run(tmp_path)
    fit(GraphTask(recipe), run)
    before = run.result()
    with pytest.raises(RunError, match=r"another recipe; they differ in lr \(0\.01, not 0\.5\)"):
        fit(GraphTask(recipe.replace(lr=0.5)), run)
    assert run.result() == before


def test_a_folder_without_a_finished_epoch_gives_way_to_another_recipe(tmp_path, recipe):
    run = Run(tmp_path)
    run.start(recipe.replace(lr=0.5))
    run.save_checkpoint({"step": 1})
    fit(GraphTask(recipe), run)
    assert run.recipe() == recipe
    assert run.done

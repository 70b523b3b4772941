"""Training from Python: one run by its recipe, several in processes."""

from dataclasses import dataclass

import pytest

from comhe.errors import RunError, UsageError
from comhe.train import Run, fit, get_recipe
from comhe.train.graphs import GraphRecipe, GraphTask
from comhe.train.runs.launch import train_all
from comhe.train.runs.run import run_folder


def test_a_recipe_is_trained_in_the_folder_that_it_names(tmp_path):
    recipe, rows = get_recipe("kipf", "gcn", "citations", "mhe", epochs=2), []
    run = fit(recipe, runs=tmp_path, progress=lambda row, epochs: rows.append((row["epoch"], epochs)))
    assert run.folder == run_folder(tmp_path, recipe)
    assert rows == [(0, 2), (1, 2)]
    stamp = (run.folder / "result.json").stat().st_mtime_ns
    assert fit(recipe, runs=tmp_path).result() == run.result()
    assert (run.folder / "result.json").stat().st_mtime_ns == stamp
    # Other settings are another run.
    assert fit(recipe.replace(epochs=3), runs=tmp_path).folder != run.folder
    with pytest.raises(RunError, match="epochs"):
        fit(recipe.replace(epochs=3), run)


def test_a_task_of_ones_own_and_a_folder(tmp_path, recipe):
    run = fit(GraphTask(recipe.replace(epochs=2)), tmp_path / "here")
    assert isinstance(run, Run)
    assert run.folder == tmp_path / "here"


def test_a_task_of_an_unregistered_domain_goes_on(tmp_path, recipe):
    @dataclass(frozen=True)
    class OtherRecipe(GraphRecipe):
        domain: str = "others"

    task = GraphTask(OtherRecipe(data="citations", epochs=2))
    run = fit(task, tmp_path)
    assert fit(task, tmp_path).result() == run.result()


def test_failures_are_named_and_what_is_done_is_left_alone(tmp_path, recipe, forked_workers):
    good = [recipe.replace(seed=seed, epochs=3) for seed in range(2)]
    bad = recipe.replace(model_options={"no_such_option": 1}, seed=7)
    result = fit(good[0], runs=tmp_path).folder / "result.json"
    stamp, lines = result.stat().st_mtime_ns, []
    failures = train_all([*good, bad], tmp_path, None, "cpu", jobs=1, progress=lambda *line: lines.append(line))
    (failure,) = failures
    assert failure.startswith(f"{bad.label} seed 7: ")
    assert "no_such_option" in failure
    assert [line[:2] for line in lines] == [(1, 2), (2, 2)]
    assert result.stat().st_mtime_ns == stamp
    assert Run(run_folder(tmp_path, good[1])).done


def test_runs_of_data_whose_files_are_missing_are_tried_once(tmp_path, recipe, forked_workers):
    data = f"graph:{tmp_path}/nowhere.pt"
    missing = [recipe.replace(data=data, epochs=1, seed=seed) for seed in range(3)]
    good, lines = recipe.replace(epochs=1, seed=3), []
    failures = train_all([*missing, good], tmp_path, None, "cpu", jobs=1, progress=lambda *line: lines.append(line))
    first, *others = failures
    assert "seed 0: MissingDataError: " in first
    assert [failure.partition(" seed ")[2] for failure in others] == [
        f"{seed}: not tried without the files of {data}" for seed in (1, 2)
    ]
    assert [line[:2] for line in lines] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert Run(run_folder(tmp_path, good)).done


@pytest.mark.parametrize(
    "changes", [{"regularizer": "rp-comhee"}, {"regularizer_options": {"foo": 1}}, {"data": "coro"}]
)
def test_a_mistake_writes_nothing(tmp_path, recipe, changes):
    with pytest.raises(UsageError):
        fit(recipe.replace(**changes), runs=tmp_path)
    assert list(tmp_path.iterdir()) == []

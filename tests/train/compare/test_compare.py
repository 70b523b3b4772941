import csv
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from filelock import FileLock

from comhe.errors import ComheError, RunError, StorageError, UsageError
from comhe.train.compare.compare import check, collect, compare, plan
from comhe.train.recipe import get_recipe
from comhe.train.runs.launch import fit, train_all
from comhe.train.runs.run import Run, run_folder

CELLS = {"models": "gcn", "data": "citations", "regularizers": "none,hs-mhe", "seeds": 2}


def test_a_sweep_trains_each_variant_once_and_the_baseline_without_the_penaltys_settings(tmp_path, in_process):
    settings = {"epochs": [2, 3], "weight": [0.1, 3.0]}
    found = compare(**CELLS, settings=settings, runs=tmp_path / "runs", output=tmp_path / "out")
    assert len(in_process) == 2 * (2 + 4)
    rows = [row for row in found.rows["kipf"] if row.epoch == "last"]
    assert [row.settings for row in rows if row.regularizer == "none"] == ["epochs=2", "epochs=3"]
    base = {row.settings: row.test for row in rows if row.regularizer == "none"}
    for row in rows:
        if row.regularizer == "hs-mhe":
            assert row.n == 2
            assert row.difference == pytest.approx(row.test - base[row.settings.split()[0]])
    assert "| hs-mhe | epochs=2 weight=0.1 | 2 |" in found.markdown()
    names = {"kipf.csv", "kipf.json", "kipf.md", "kipf-runs.csv", "kipf-curves.csv"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    lines = list(csv.DictReader((tmp_path / "out" / "kipf-runs.csv").open()))
    assert [float(line["last_test"]) for line in lines] == pytest.approx([r["last_test"] for r in found.records])
    assert json.loads((tmp_path / "out" / "kipf.json").read_text())[0]["settings"] == "epochs=2"

    in_process.clear()  # what the output folder lists is not trained again, wherever the run folders are
    again = compare(**CELLS, settings=settings, runs=tmp_path / "others", output=tmp_path / "out")
    assert in_process == []
    assert [row.settings for row in again.rows["kipf"]] == [row.settings for row in found.rows["kipf"]]


def test_what_an_output_folder_lists_stays_there(tmp_path, in_process):
    """Other models, seeds and settings join a table, whose differences and corrections are then those of all."""
    folders = {"runs": tmp_path / "runs", "output": tmp_path / "out"}
    settings = {"epochs": 2, "energies": 1}

    def listed(file="runs"):
        return list(csv.DictReader((tmp_path / "out" / f"kipf-{file}.csv").open()))

    compare(**CELLS, settings=settings, **folders)
    first, curves, energies = listed(), listed("curves"), listed("energies")
    compare(**CELLS | {"models": "sage", "seeds": 1}, settings={"epochs": 1}, **folders)
    assert listed()[:4] == first
    assert [(row["model"], row["variant"]) for row in listed()[4:]] == [("sage", "epochs=1")] * 2
    kept = [{name: text for name, text in row.items() if name in curves[0]} for row in listed("curves")]
    assert [row for row in kept if row["model"] == "gcn"] == curves
    assert listed("energies") == energies
    rows = list(csv.DictReader((tmp_path / "out" / "kipf.csv").open()))
    assert [(row["model"], row["n"]) for row in rows[:4]] == [("gcn", "2"), ("gcn", "2"), ("sage", "1"), ("sage", "1")]

    in_process.clear()
    again = compare(
        **CELLS | {"seeds": 1}, first_seed=2, settings=settings, runs=tmp_path / "o", output=tmp_path / "out"
    )
    assert [recipe.seed for recipe in in_process] == [2, 2]
    assert [row.n for row in again.rows["kipf"]] == [1] * 4  # what was asked for
    assert next(csv.DictReader((tmp_path / "out" / "kipf.csv").open()))["n"] == "3"
    assert listed()[:4] == first


def test_curves_are_those_of_finished_runs(tmp_path, in_process):
    """An unfinished run of the same name changes nothing, and energies are removed once no listed run has any."""
    settings = {"epochs": 3, "energies": 1, "tag": "mine"}
    cells = CELLS | {"regularizers": "none", "seeds": 1}
    compare(**cells, settings=settings, runs=tmp_path / "runs", output=tmp_path / "out")
    curves = (tmp_path / "out" / "kipf-curves.csv").read_text()
    begun = run_folder(tmp_path / "begun", plan("gcn", "citations", "none", [0], "kipf", settings)[0])
    begun.mkdir(parents=True)
    (begun / "metrics.csv").write_text("epoch,val_accuracy\n0,0.5\n")
    compare(**cells, settings=settings, runs=tmp_path / "begun", output=tmp_path / "out")
    assert (tmp_path / "out" / "kipf-curves.csv").read_text() == curves
    assert (tmp_path / "out" / "kipf-energies.csv").exists()
    (tmp_path / "out" / "kipf-runs.csv").unlink()
    compare(**cells, settings={"epochs": 2, "tag": "mine"}, runs=tmp_path / "other", output=tmp_path / "out")
    assert not (tmp_path / "out" / "kipf-energies.csv").exists()


def test_two_commands_that_end_at_once_both_join_the_table(tmp_path, in_process):
    found = [
        compare(**CELLS | {"models": model}, settings={"epochs": 1}, runs=tmp_path / "runs")
        for model in ("gcn", "sage")
    ]
    with locked_by_another(tmp_path / "out") as release, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(each.save, tmp_path / "out") for each in found]
        release()
        for each in waiting:
            each.result()
    rows = list(csv.DictReader((tmp_path / "out" / "kipf-runs.csv").open()))
    assert sorted(row["model"] for row in rows) == ["gcn"] * 4 + ["sage"] * 4
    assert not (tmp_path / "out" / "lock").exists()


@contextmanager
def locked_by_another(folder):
    folder.mkdir()
    lock = FileLock(folder / "lock")
    lock.acquire()
    try:
        yield lock.release
    finally:
        lock.release(force=True)


def test_a_table_of_an_older_version_gets_its_variants_from_the_recipes(tmp_path):
    recipe = get_recipe("kipf", "gcn", "citations", "none", epochs=2)
    fit(recipe, runs=tmp_path)
    (record,) = collect([recipe], tmp_path)
    old = {key: value for key, value in record.items() if key not in ("variant", "training")}
    (found,) = collect([recipe], tmp_path / "none", {recipe.digest: old})
    assert found["variant"] == found["training"] == "epochs=2"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"regularizers": "none,rp-comhee"}, "did you mean rp-comhe"),
        ({"data": "citations,coro"}, "did you mean cora"),
        ({"models": "gcn,gta"}, "gat"),
        ({"recipe": "kipf,tunde"}, "did you mean tuned"),
        ({"settings": {"epoch": 3}}, "did you mean epochs"),
        ({"settings": {"epochs": [3, 0]}}, "epochs must be positive"),
        ({"settings": {"weight": -1.0}}, "must not be negative"),
        ({"regularizers": "rp-comhe", "settings": {"dim": [8, 1]}}, "dim must be at least 2"),
        ({"regularizers": "none", "settings": {"weight": 1.0}}, "has a setting 'weight'"),
        ({"settings": {"epochs": [3, 3]}}, "each value once"),
        ({"settings": {"epochs": [3, 4], "tag": "mine"}}, "no tag for several values"),
        ({"device": "cuda:77"}, "cuda:77"),
        ({"jobs": 0}, "jobs must be at least 1"),
        ({"seeds": 0}, "at least one"),
        ({"plugins": ("no_such_module",)}, "no_such_module"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained_or_written(changes, message, tmp_path, in_process):
    with pytest.raises(UsageError, match=message):
        compare(**CELLS | {"runs": tmp_path / "runs"} | changes)
    assert in_process == []
    assert not (tmp_path / "runs").exists()


def test_an_output_folder_that_cannot_be_written_is_found_before_training(tmp_path, in_process):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="out cannot be"):
        compare(**CELLS, runs=tmp_path / "runs", output=tmp_path / "file" / "out")
    assert in_process == []


def test_all_cells_of_a_data_set_come_with_one_seed_before_the_next():
    recipes = plan("gcn,gat", ["cora", "citeseer"], "none,mhe", range(5, 7))
    assert [(r.data, r.seed) for r in recipes[::4]] == [("cora", 5), ("cora", 6), ("citeseer", 5), ("citeseer", 6)]
    assert {r.recipe for r in recipes} == {"kipf"}
    check(recipes, "cpu", 1)


def test_missing_runs_are_trained_finished_ones_left_and_failures_named(tmp_path, recipe, forked_workers):
    good = [recipe.replace(seed=seed, epochs=3) for seed in range(2)]
    bad = recipe.replace(model_options={"no_such_option": 1}, seed=7)
    fit(good[0], runs=tmp_path)
    stamp = (run_folder(tmp_path, good[0]) / "result.json").stat().st_mtime_ns
    lines = []
    failures = train_all([*good, bad], tmp_path, None, "cpu", jobs=1, progress=lambda *report: lines.append(report))
    assert len(failures) == 1
    assert "seed 7" in failures[0]
    assert "no_such_option" in failures[0]
    assert [line[:2] for line in lines] == [(1, 2), (2, 2)]
    assert (run_folder(tmp_path, good[0]) / "result.json").stat().st_mtime_ns == stamp
    assert [record["seed"] for record in collect([*good, bad], tmp_path)] == [0, 1]


def test_a_run_without_costs_is_named(tmp_path, recipe):
    run = Run(run_folder(tmp_path, recipe))
    run.start(recipe)
    run.finish({"seconds": 1.0})
    with pytest.raises(RunError, match="seed0 is of an older version"):
        collect([recipe], tmp_path)


def test_runs_of_another_recipe_are_not_mixed_in(tmp_path, recipe):
    run = Run(run_folder(tmp_path, recipe))
    run.start(recipe.replace(lr=0.5))
    run.finish({"seconds": 1.0})
    with pytest.raises(ComheError, match="another recipe"):
        collect([recipe], tmp_path)


def test_a_path_with_a_comma_is_one_data_set(tmp_path):
    (tmp_path / "x,y").mkdir()
    for data, names in (
        (f"folder:{tmp_path}/x,y", [f"folder:{tmp_path}/x,y"]),
        (f"folder:{tmp_path}/x,glyphs", [f"folder:{tmp_path}/x", "glyphs"]),
        (f"glyphs, folder:{tmp_path}/x,y,digits", ["glyphs", f"folder:{tmp_path}/x,y", "digits"]),
        ([f"folder:{tmp_path}/x,z"], [f"folder:{tmp_path}/x,z"]),
    ):
        assert [each.data for each in plan("resnet8", data, "none", [0])] == names

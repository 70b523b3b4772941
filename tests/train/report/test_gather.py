import shutil

import pytest

from comhe.errors import ComheError, RunError
from comhe.train.compare.curves import save_curves
from comhe.train.report.gather import gather
from comhe.train.runs.files import write_csv
from comhe.train.runs.run import run_folder


def test_run_folders_at_any_depth_and_their_variants(finished, recipe):
    _, folder, records = finished
    unfinished = folder / "deep" / "down"
    unfinished.mkdir(parents=True)
    (unfinished / "recipe.json").write_text(recipe.to_json())
    found = gather([folder])
    assert (len(found.records), found.unfinished) == (6, 1)
    assert {key[3:] for key in found.runs} == {(r["regularizer"], r["variant"]) for r in records}
    assert {len(runs) for runs in found.runs.values()} == {2}
    assert found.curves.keys() == found.runs.keys()
    assert len(found.environments) == 6


def test_a_table_with_its_curves_is_as_good_as_the_folders(finished, tmp_path):
    recipes, folder, records = finished
    write_csv(tmp_path / "test-runs.csv", records)
    save_curves(tmp_path / "test", [(recipe, run_folder(folder, recipe)) for recipe in recipes])
    found = gather([tmp_path / "test-runs.csv"])
    assert [r["settings"] for r in found.records] == [r["settings"] for r in records]
    assert found.curves.keys() == gather([folder]).curves.keys()
    assert found.runs == {}


def test_sources_that_cannot_be_reported(finished, tmp_path):
    _, _, records = finished
    write_csv(tmp_path / "test-runs.csv", records)
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    for sources, message in (
        ([tmp_path], "no finished run"),
        ([tmp_path / "no"], "neither a folder"),
        ([tmp_path / "odd.csv"], "not a table of runs"),
        ([tmp_path / "test-runs.csv"] * 2, "listed twice"),
    ):
        with pytest.raises(ComheError, match=message):
            gather(sources)
    (tmp_path / "test-curves.csv").write_text("regularizer,seed,epoch,val_accuracy\nnone,0,0,0.5\n")  # of which data?
    write_csv(tmp_path / "test-runs.csv", [*records, *(record | {"data": "other"} for record in records)])
    with pytest.raises(ComheError, match="a folder of its own"):
        gather([tmp_path / "test-runs.csv"])


def test_a_damaged_recipe_is_named_and_what_to_do(finished, tmp_path):
    recipes, folder, _ = finished
    copy = tmp_path / "a" / "seed0"
    shutil.copytree(run_folder(folder, recipes[0]), copy)
    for content in (b"{", b"\xff\xfe"):
        (copy / "recipe.json").write_bytes(content)
        with pytest.raises(
            RunError, match=r"seed0/recipe\.json: damaged \(.*\); remove the folder, and train"
        ) as error:
            gather([tmp_path])
        assert "\n" not in str(error.value)


def test_a_table_of_several_data_sets_has_the_curves_of_each(finished, tmp_path):
    recipes, folder, records = finished
    save_curves(tmp_path / "test", [(recipe, run_folder(folder, recipe)) for recipe in recipes])
    write_csv(tmp_path / "test-runs.csv", [*records, *(record | {"data": "other"} for record in records)])
    found = gather([tmp_path / "test-runs.csv"])
    assert found.curves.keys() == gather([folder]).curves.keys()


def test_runs_of_one_name_with_different_settings(finished, recipe, tmp_path):
    recipes, _, _ = finished
    for number, changed in enumerate((recipes[0], recipes[1].replace(lr=0.5, epochs=3))):
        folder = tmp_path / str(number)
        source = run_folder(finished[1], recipes[number])
        folder.mkdir()
        for name in ("environment.json", "result.json", "metrics.csv", "energies.csv"):
            (folder / name).write_bytes((source / name).read_bytes())
        (folder / "recipe.json").write_text(changed.replace(tag="same").to_json())
    with pytest.raises(ComheError, match="different settings"):
        gather([tmp_path])

import csv
import math
from itertools import pairwise

import pytest

from comhe.train.compare.curves import LONGEST, curves_of, over_seeds, read_curves, save_curves
from comhe.train.graphs import GraphRecipe
from comhe.train.runs.run import run_folder


def test_curves_come_back_from_their_files(finished, tmp_path):
    """In the form of the committed results: epochs of all runs in one file, energies as means over layers."""
    recipes, folder, _ = finished
    runs = [(recipe, run_folder(folder, recipe)) for recipe in recipes]
    save_curves(tmp_path / "test", runs)
    found = read_curves(tmp_path / "test-runs.csv")
    assert {key[:2] for key in found} == {("gcn", "citations")}
    assert {key[3] for key in found} == {"", "energies=1 epochs=3", "energies=1 epochs=3 weight=0.1"} - {""}
    for recipe, path in runs:
        variant = "energies=1 epochs=3" + " weight=0.1" * (recipe.weight is not None)
        expected = curves_of(path)
        curves = found[recipe.model, recipe.data, recipe.regularizer, variant, recipe.seed]
        assert curves.keys() == expected.keys() == {"accuracy", "hidden", "output"}
        for kind, curve in curves.items():
            assert [x for x, _ in curve] == [x for x, _ in expected[kind]]
            assert [y for _, y in curve] == pytest.approx([y for _, y in expected[kind]], rel=1e-4)


def test_rows_of_runs_that_are_gone_are_kept(finished, tmp_path):
    recipes, folder, _ = finished
    runs = [(recipe, run_folder(folder, recipe)) for recipe in recipes]

    def energies():
        return list(csv.DictReader((tmp_path / "test-energies.csv").open()))

    save_curves(tmp_path / "test", runs)
    rows = energies()
    assert [row["epoch"] for row in rows[:4]] == ["0", "1", "2", "3"]
    save_curves(tmp_path / "test", [(recipes[0], tmp_path / "gone"), *runs[1:]])
    assert sorted(map(str, energies())) == sorted(map(str, rows))


def test_bands_are_one_deviation_and_one_seed_has_none():
    middle, band = over_seeds([[(1, 2.0)], [(1, 4.0)]])
    assert middle == [(1, 3.0)]
    assert band == [(1, pytest.approx(3 - math.sqrt(2)), pytest.approx(3 + math.sqrt(2)))]
    assert over_seeds([[(1, 2.0)]]) == ([(1, 2.0)], [])


def _run(folder, epochs, energies=""):
    folder.mkdir()
    lines = [f"{i},{0.01 * i:g}" for i in range(epochs)]
    (folder / "metrics.csv").write_text("\n".join(["epoch,val_accuracy", *lines]) + "\n")
    (folder / "energies.csv").write_text("epoch,layer,role,energy,half_space_energy\n" + energies)
    return folder


def test_several_models_and_data_sets_share_a_file(tmp_path):
    base = GraphRecipe(recipe="kipf", data="cora")
    recipes = [base, base.replace(data="citeseer"), base.replace(model="gcn_deep", data="cora")]
    runs = [(r, _run(tmp_path / f"{i}", 3 + i, "0,a,hidden,1,0.5\n")) for i, r in enumerate(recipes)]
    save_curves(tmp_path / "kipf", runs)
    found = read_curves(tmp_path / "kipf-runs.csv")
    assert [len(found[r.model, r.data, "none", "", 0]["accuracy"]) for r in recipes] == [3, 4, 5]
    assert all(curves["hidden"] == [(0, 0.5)] and "output" not in curves for curves in found.values())


@pytest.mark.parametrize("epochs", [1, LONGEST, LONGEST + 1, 400])
def test_long_curves_are_thinned_to_equal_steps_and_keep_both_ends(epochs, tmp_path):
    save_curves(tmp_path / "kipf", [(GraphRecipe(recipe="kipf", data="cora"), _run(tmp_path / "run", epochs))])
    (curves,) = read_curves(tmp_path / "kipf-runs.csv").values()
    kept = [x for x, _ in curves["accuracy"]]
    assert (kept[0], kept[-1]) == (1, epochs)
    assert len(kept) <= LONGEST + 2
    assert len({b - a for a, b in pairwise(kept[1:-1])}) <= 1
    assert epochs > LONGEST or len(kept) == epochs


def test_files_of_older_versions_are_of_one_model_and_data_set(tmp_path):
    old = tmp_path / "kipf-curves.csv"
    old.write_text("regularizer,seed,epoch,val_accuracy\nmhe,4,0,0.5\n")
    assert read_curves(tmp_path / "kipf-runs.csv") == {("", "", "mhe", "", 4): {"accuracy": [(1, 50.0)]}}
    recipe = GraphRecipe(recipe="kipf", data="cora")
    save_curves(tmp_path / "kipf", [(recipe, _run(tmp_path / "run", 2))])
    assert set(read_curves(tmp_path / "kipf-runs.csv")) == {
        ("gcn", "cora", "mhe", "", 4),
        ("gcn", "cora", "none", "", 0),
    }

import csv
import math

import pytest

from comhe.train.compare.curves import curves_of, over_seeds, read_curves, save_curves
from comhe.train.runs.run import run_folder


def test_curves_come_back_from_their_files(finished, tmp_path):
    """In the form of the committed results: epochs of all runs in one file, energies as means over layers."""
    recipes, folder, _ = finished
    runs = [(recipe, run_folder(folder, recipe)) for recipe in recipes]
    save_curves(tmp_path / "test", runs)
    found = read_curves(tmp_path / "test-runs.csv")
    assert {key[1] for key in found} == {"", "energies=1 epochs=3", "energies=1 epochs=3 weight=0.1"} - {""}
    for recipe, path in runs:
        variant = "energies=1 epochs=3" + " weight=0.1" * (recipe.weight is not None)
        expected = curves_of(path)
        curves = found[recipe.regularizer, variant, recipe.seed]
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

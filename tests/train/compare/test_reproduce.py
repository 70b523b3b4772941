import pytest

from comhe.errors import UsageError
from comhe.regularizers import list_regularizers
from comhe.train.compare.reproduce import PUBLISHED, cells, comparison_lines, parse_duration, recipes, recorded_lines
from comhe.train.recipe import get_recipe, list_recipes
from comhe.train.runs.run import Run, run_folder
from comhe.zoo import model_domain


@pytest.mark.parametrize("table", PUBLISHED)
def test_every_cell_is_a_recipe(table):
    assert PUBLISHED[table]["recipe"] in list_recipes(model_domain(cells(table)[0].model))
    assert {cell.regularizer for cell in cells(table)} <= set(list_regularizers())
    wanted = recipes(table, range(2))
    assert len({recipe.digest for recipe in wanted}) == len(wanted) == 2 * len(cells(table))
    assert [recipe.seed for recipe in wanted] == sorted(recipe.seed for recipe in wanted)
    for cell in cells(table):  # percent, never a fraction or the other figure
        if cell.published is not None:
            low, high = (60, 95) if PUBLISHED[table]["figure"] == "accuracy" else (4, 40)
            assert low < cell.published < high


def test_figures_stand_next_to_the_published_ones(tmp_path, monkeypatch):
    monkeypatch.setitem(
        PUBLISHED,
        "small",
        {
            "title": "small",
            "figure": "error",
            "recipe": "kipf",
            "regularizers": ["none", "mhe"],
            "cells": {"gcn.citations": [25.0, 24.0], "gat.citations": [None]},
        },
    )
    wanted = recipes("small", range(2))
    for recipe, accuracy in zip(wanted, (0.8, 0.7, None, 0.9), strict=False):
        if accuracy is not None:
            run = Run(run_folder(tmp_path, recipe))
            run.start(recipe)
            run.finish({epoch: {"test_accuracy": accuracy} for epoch in ("last", "best")})
    assert [(recipe.model, recipe.regularizer, recipe.seed) for recipe in wanted[:4]] == [
        ("gcn", "none", 0),
        ("gcn", "mhe", 0),
        ("gat", "none", 0),
        ("gcn", "none", 1),
    ]
    assert comparison_lines("small", wanted, tmp_path) == [
        ["gcn", "citations", "none", "25.00", "2", "15.00 ± 7.07", "15.00 ± 7.07", "-10.00"],
        ["gcn", "citations", "mhe", "24.00", "1", "30.00", "30.00", "+6.00"],
        ["gat", "citations", "none", "did not converge", "0", "not run", "not run", ""],
    ]
    # A run with other settings has a folder of its own.
    assert comparison_lines("small", recipes("small", [0], settings={"lr": 0.5}), tmp_path)[0][4] == "0"


def record(recipe, seed, last, best, variant="", regularizer="none"):
    cell = {"recipe": recipe, "model": "gcn", "data": "cora", "regularizer": regularizer, "seed": seed}
    return cell | {"variant": variant, "last_test": last, "best_test": best}


def test_recorded_runs_stand_there_by_recipe():
    records = [record("kipf", 0, 80.0, 81.0), record("kipf", 1, 82.0, 83.0), record("mine", 0, 70.0, 71.0)]
    records += [
        record("kipf", 0, 1.0, 1.0, "lr=0.5"),
        record("few_labels", 0, 2.0, 2.0),  # five labels of a class are not the paper's twenty
        record("kipf", 0, 79.0, 80.0, regularizer="mhe"),  # of which the table has no figure
    ]
    first, second, *others = recorded_lines("gcn", records)
    assert first == ["gcn", "cora", "none", "81.30", "kipf", "2", "81.00 ± 1.41", "82.00 ± 1.41", "+0.70"]
    assert second == ["gcn", "cora", "none", "81.30", "mine", "1", "70.00", "71.00", "-10.30"]
    assert [line[4:] for line in others] == [["", "0", "not run", "not run", ""]] * 11


def test_a_budget_is_a_duration():
    assert [parse_duration(text) for text in ("90", "45s", "20m", "1.5h")] == [90, 45, 1200, 5400]
    for text in ("", "m", "-3m", "nan", "inf", "3d"):
        with pytest.raises(ValueError, match="20m"):
            parse_duration(text)


def test_the_tables_own_recipe_gives_way_to_another():
    assert {recipe.recipe for recipe in recipes("gcn", [0], "tuned")} == {"tuned"}
    assert recipes("gcn", [0])[0] == get_recipe("kipf", "gcn", "cora", "none")


def test_a_sweep_has_no_single_figure_to_compare():
    with pytest.raises(UsageError, match="one value"):
        recipes("gcn", [0], settings={"epochs": [5, 9]})
    (first, *_) = recipes("gcn", [3], settings={"epochs": [5], "weight": 0.5})
    assert (first.regularizer, first.epochs, first.weight, first.seed) == ("none", 5, None, 3)

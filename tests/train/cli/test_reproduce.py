import json
from pathlib import Path

import pytest

from comhe.train.cli.main import main
from comhe.train.compare.reproduce import PUBLISHED


def test_our_figures_stand_next_to_the_published_ones(tmp_path, capsys, monkeypatch, in_process):
    cells = {"cells": {"gcn.citations": [81.3, 82.7]}, "regularizers": ["none", "hs-mhe"]}
    monkeypatch.setitem(PUBLISHED, "gcn", PUBLISHED["gcn"] | cells)
    argv = ["reproduce", "gcn", "--seeds", "1", "--settings", "epochs=2", "--budget", "20m", "--runs", str(tmp_path)]
    assert main(argv) == 0
    shown = capsys.readouterr().out
    assert "recipe kipf" in shown
    assert "82.70" in shown
    assert (tmp_path / "kipf" / "gcn.citations-hs-mhe+epochs=2" / "seed0" / "result.json").exists()


def test_a_budget_is_for_this_machine(tmp_path, capsys):
    assert main(["reproduce", "gcn", "--budget", "20m", "--cluster", "slurm", "--runs", str(tmp_path / "runs")]) == 2
    assert "--budget is for this machine" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


RESULTS = sorted(map(str, (Path(__file__).parents[3] / "results").glob("*/*-runs.csv")))


def test_all_tables_are_printed_from_committed_runs(capsys):
    assert main(["reproduce", "all", "--results", *RESULTS]) == 0
    shown = " ".join(capsys.readouterr().out.split())  # titles are wrapped where the terminal is narrow
    assert all(f"{name}: {table['title']}" in shown for name, table in PUBLISHED.items())
    assert main(["reproduce", "all", "--json", "--results", *RESULTS]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert list(dict.fromkeys(row["table"] for row in rows)) == list(PUBLISHED)
    cora = next(row for row in rows if (row["data"], row["regularizer"], row["recipe"]) == ("cora", "none", "kipf"))
    assert (cora["published"], cora["n"]) == ("81.30", "200")  # with the hundred seeds of `fresh`


def test_the_recipe_chooses_among_recorded_runs(capsys):
    assert main(["reproduce", "--results", *RESULTS, "--json", "--recipe", "tuned", "gcn"]) == 0
    assert {row["recipe"] for row in json.loads(capsys.readouterr().out)} == {"tuned"}


@pytest.mark.parametrize(
    "words", ["--budget 20m", "--print-commands", "--cluster slurm", "--settings epochs=3", "--seeds 9"]
)
def test_what_is_for_training_is_refused_with_results(words, capsys):
    assert main(["reproduce", "gcn", *words.split(), "--results", *RESULTS]) == 2
    assert f"{words.split()[0]} is for training" in capsys.readouterr().err


def test_all_tables_are_not_trained(capsys, tmp_path):
    assert main(["reproduce", "all", "--runs", str(tmp_path / "runs")]) == 2
    assert "--results" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()

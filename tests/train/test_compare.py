import csv
import json

import pytest
import torch

from comhe.datasets import load_graph
from comhe.regularizers import create_regularizer
from comhe.train.compare.compare import (
    collect,
    known_records,
    markdown,
    save,
    table,
)
from comhe.train.engine.cost import forward_flops, penalty_seconds
from comhe.train.runs.launch import train_all, train_one
from comhe.train.runs.run import Run, run_folder


def _record(regularizer: str, seed: int, test: float) -> dict:
    shared = {"recipe": "kipf", "model": "gcn", "data": "cora", "seconds": 1.0}
    figures = {f"{epoch}_{key}": value for epoch in ("last", "best") for key, value in (("val", 80.0), ("test", test))}
    return {**shared, "regularizer": regularizer, "seed": seed, **figures}


def test_differences_are_taken_on_shared_seeds():
    records = [_record("none", seed, 80.0 + seed) for seed in range(4)]
    records += [_record("mhe", seed, 81.0 + seed + 0.1 * (seed == 2)) for seed in range(1, 4)]
    rows = {(row.regularizer, row.epoch): row for row in table(records)}
    assert rows["none", "last"].n == 4
    assert rows["none", "last"].difference is None
    mhe = rows["mhe", "last"]
    assert mhe.n == 3
    assert mhe.difference == pytest.approx(1.0 + 0.1 / 3)  # not the difference of the two means
    assert mhe.low < mhe.difference < mhe.high
    assert "+1.03" in markdown(table(records))


def test_one_seed_has_neither_deviation_nor_interval():
    rows = table([_record("none", 0, 80.0), _record("mhe", 0, 81.5)])
    assert "| mhe | 1 | 80.00 | 81.50 | +1.50 |  |  |" in markdown(rows)
    assert "nan" not in markdown(rows)


def test_corrections_cover_the_family():
    records = [_record("none", s, 80.0 + s % 3) for s in range(6)]
    records += [_record("mhe", s, 80.5 + s % 3 + 0.2 * (s % 2)) for s in range(6)]
    records += [_record("so", s, 80.0 + s % 3 + 0.3 * (s % 2)) for s in range(6)]
    rows = {row.regularizer: row for row in table(records) if row.epoch == "last"}
    assert rows["mhe"].p_holm == pytest.approx(2 * rows["mhe"].p)
    assert rows["so"].p_holm == pytest.approx(rows["so"].p)


def test_missing_runs_are_made_done_ones_left_and_failures_named(tmp_path, recipe):
    good = [recipe.replace(seed=seed, epochs=3) for seed in range(2)]
    bad = recipe.replace(model_options={"no_such_option": 1}, seed=7)
    train_one(good[0], tmp_path, None, "cpu")
    stamp = (run_folder(tmp_path, good[0]) / "result.json").stat().st_mtime_ns
    lines = []
    failures = train_all([*good, bad], tmp_path, None, "cpu", jobs=1, progress=lambda *seen: lines.append(seen))
    assert len(failures) == 1
    assert "seed 7" in failures[0]
    assert "no_such_option" in failures[0]
    assert [seen[:2] for seen in lines] == [(1, 2), (2, 2)]
    assert (run_folder(tmp_path, good[0]) / "result.json").stat().st_mtime_ns == stamp
    records = collect([*good, bad], tmp_path)
    assert [record["seed"] for record in records] == [0, 1]

    save(tmp_path / "out", "test", records, table(records))
    rows = list(csv.DictReader((tmp_path / "out" / "test-runs.csv").open()))
    assert [float(row["last_test"]) for row in rows] == pytest.approx([record["last_test"] for record in records])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "test.csv",
        "test.json",
        "test.md",
        "test-runs.csv",
    }


def test_costs_and_energies_are_in_every_form(tmp_path, recipe):
    recipes = [recipe.replace(regularizer="hs-mhe", regularizer_options={}, epochs=3)]
    train_one(recipes[0], tmp_path, None, "cpu")
    records = collect(recipes, tmp_path)
    rows = table(records)
    save(tmp_path / "out", "test", records, rows)
    told = json.loads((tmp_path / "out" / "test.json").read_text())
    assert [row["epoch"] for row in told] == ["last", "best"]
    assert told[0]["std"] is None  # of one seed
    graph = load_graph("citations")
    assert told[0]["parameters"] == 16 * (graph.num_features + 1) + (16 + 1) * graph.num_classes
    assert told[0]["penalty_ms"] > 0
    assert told[0]["step_ms"] > 0
    assert told[0]["hidden_end"] < told[0]["hidden_start"]  # what the penalty is for
    written = (tmp_path / "out" / "test.md").read_text()
    assert f"{told[0]['hidden_start']:.4f} to {told[0]['hidden_end']:.4f}" in written
    # The records that come back from the file make the same table.
    again = table(list(known_records(tmp_path / "out" / "test-runs.csv").values()))
    assert again[0].hidden_end == pytest.approx(rows[0].hidden_end, rel=1e-5)
    assert again[0].gflops == pytest.approx(rows[0].gflops, rel=1e-5)


def test_a_run_without_costs_is_named(tmp_path, recipe):
    run = Run(run_folder(tmp_path, recipe))
    run.start(recipe)
    run.finish({"seconds": 1.0})
    with pytest.raises(ValueError, match="seed0 is of an older version"):
        collect([recipe], tmp_path)


def test_operations_of_a_forward_pass():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Flatten(), torch.nn.Linear(8 * 25, 4))
    assert forward_flops(model, (torch.zeros(2, 3, 5, 5),)) == 2 * 2 * (25 * 8 * 27 + 200 * 4)
    assert model.training

    class Sparse(torch.nn.Module):
        def forward(self, x):
            return x @ torch.ones(6, 5)

    entries = torch.eye(6).to_sparse_csr()
    assert forward_flops(Sparse(), (entries,)) == 2 * 6 * 5  # not 2 * 6 * 6 * 5


def test_a_penalty_is_timed_and_none_costs_nothing():
    model = torch.nn.Linear(4, 3)
    assert penalty_seconds(create_regularizer("mhe", model), list(model.parameters())) > 0
    assert penalty_seconds(create_regularizer("none", model), list(model.parameters())) == 0

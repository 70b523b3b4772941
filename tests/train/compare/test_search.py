import csv
import json

import pytest

from comhe.regularizers import list_regularizers, regularizer_options
from comhe.train import choices
from comhe.train.compare import search
from comhe.train.compare.search import draw, main
from comhe.train.runs.files import write_csv


def test_trials_are_different_and_depend_on_the_names_alone():
    trials = draw("tuned", "gcn", "cora", "rp-comhe", 10)
    assert trials == draw("tuned", "gcn", "cora", "rp-comhe", 10)
    assert len({trial.replace(tag="").digest for trial in trials}) == 10
    assert trials != draw("tuned", "gcn", "citeseer", "rp-comhe", 10)
    assert len(draw("kipf", "gcn", "cora", "none", 10)) == 1  # nothing to choose
    few = draw("few_labels", "gcn", "cora", "none", 10)  # its training is searched, as that of tuned
    assert len(few) == 10
    assert {trial.labels_per_class for trial in few} == {5}
    of_images = draw("few_labels", "cnn6", "cifar100", "hs-mhe", 10)
    assert len({(trial.lr, trial.weight_decay, trial.epochs) for trial in of_images}) > 5
    assert {trial.labels_per_class for trial in of_images} == {20}
    committed = json.loads(choices.CHOICES.read_text())["kipf"]["gcn.cora-hs-mhe"]
    trials = draw("kipf", "gcn", "cora", "hs-mhe", 20)
    assert any(all(getattr(trial, name) == value for name, value in committed.items()) for trial in trials)


@pytest.mark.parametrize("name", [name for name in list_regularizers() if name != "none"])
@pytest.mark.parametrize(("model", "data"), [("gcn", "cora"), ("cnn6", "cifar100"), ("pointnet", "modelnet40")])
def test_the_default_weight_of_every_regularizer_is_in_the_space(name, model, data):
    recipe = {"gcn": "kipf", "cnn6": "one_cycle", "pointnet": "few_labels"}[model]
    weights = {trial.weight for trial in draw(recipe, model, data, name, 60)}
    assert min(weights) <= regularizer_options(name)["weight"] <= max(weights)
    assert max(weights) / min(weights) >= 100


def test_the_best_trial_on_validation_is_written_where_the_recipe_reads_it(tmp_path, monkeypatch, in_process):
    written_to = tmp_path / "choices.json"
    written_to.write_text('{"kipf": {"other": {}}}')
    monkeypatch.setattr(search, "CHOICES", written_to)
    monkeypatch.setattr(search, "TRAINING_SPACE", {"graphs": {"epochs": (1, 2)}})
    argv = "--recipe tuned --data citations --regularizers hs-mhe --trials 3 --first 1 --finalists 2 --more 1 --jobs 1"
    assert main([*argv.split(), "--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "out")]) == 0
    rows = list(csv.DictReader((tmp_path / "out" / "search-tuned.csv").open()))
    assert sorted(row["n"] for row in rows) == ["1", "2", "2"]
    (chosen,) = [row for row in rows if row["chosen"]]
    written = json.loads(written_to.read_text())
    assert written["tuned"]["gcn.citations-hs-mhe"] == json.loads(chosen["settings"])
    assert "other" in written["kipf"]

    of_older_versions = [{key: text for key, text in row.items() if key != "model"} for row in rows]
    write_csv(tmp_path / "out" / "search-tuned.csv", of_older_versions)
    more = "--recipe tuned --data citations --regularizers none --trials 1 --first 1 --finalists 1 --more 1 --jobs 1"
    assert main([*more.split(), "--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "out")]) == 0
    assert list(csv.DictReader((tmp_path / "out" / "search-tuned.csv").open()))[:3] == rows  # of cells not searched now
    argv = more.split()
    argv[argv.index("none")] = "hs-mhe"
    argv += ["--model", "sage", "--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "out")]
    assert main(argv) == 0
    assert list(csv.DictReader((tmp_path / "out" / "search-tuned.csv").open()))[:3] == rows  # of another model


def test_a_trial_that_diverges_is_not_the_end_of_a_search(tmp_path, monkeypatch, forked_workers, capsys):
    written_to = tmp_path / "choices.json"
    written_to.write_text("{}")
    monkeypatch.setattr(search, "CHOICES", written_to)
    monkeypatch.setattr(search, "TRAINING_SPACE", {"graphs": {"epochs": (3,), "lr": (0.01, 1e38)}})
    argv = "--recipe tuned --data citations --regularizers none --trials 2 --first 1 --finalists 2 --more 0 --jobs 1"
    assert main([*argv.split(), "--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "out")]) == 0
    assert "lower lr 1e+38" in capsys.readouterr().err
    (row,) = csv.DictReader((tmp_path / "out" / "search-tuned.csv").open())
    assert row["chosen"] == "yes"
    assert json.loads(written_to.read_text())["tuned"]["gcn.citations-none"].get("lr", 0.01) == 0.01


def test_a_trial_that_diverges_with_some_seeds_comes_after_those_that_never_do():
    steady, lucky, gone = draw("kipf", "gcn", "cora", "hs-mhe", 3)
    found = [(steady, 80.0), (steady, 82.0), (lucky, 90.0)]
    records = [
        {"data": t.data, "regularizer": t.regularizer, "variant": t.tag, "best_val": value} for t, value in found
    ]
    assert search._best([gone, lucky, steady], records) == [steady, lucky]


def test_a_cell_of_which_every_trial_fails_keeps_what_was_found_before(tmp_path, monkeypatch, forked_workers, capsys):
    written_to = tmp_path / "choices.json"
    written_to.write_text("{}")
    monkeypatch.setattr(search, "CHOICES", written_to)
    fixed = "--recipe tuned --data citations --regularizers none --trials 1 --first 1 --finalists 1 --more 0 --jobs 1"
    argv = [*fixed.split(), "--output", str(tmp_path / "out"), "--runs"]
    monkeypatch.setattr(search, "TRAINING_SPACE", {"graphs": {"epochs": (1,)}})
    assert main([*argv, str(tmp_path / "runs")]) == 0
    before = (tmp_path / "out" / "search-tuned.csv").read_text()
    monkeypatch.setattr(search, "TRAINING_SPACE", {"graphs": {"epochs": (3,), "lr": (1e38,)}})
    assert main([*argv, str(tmp_path / "others")]) == 2
    assert "every trial of none on citations failed" in capsys.readouterr().err
    assert (tmp_path / "out" / "search-tuned.csv").read_text() == before

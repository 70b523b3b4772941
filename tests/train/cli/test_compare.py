import json

import pytest

from comhe.train import Cluster
from comhe.train.cli.main import main
from comhe.train.compare import compare as module
from comhe.train.compare.compare import Comparison
from comhe.train.compare.records import Record


def test_the_command_trains_and_prints_the_tables(tmp_path, capsys, in_process):
    argv = "compare --models gcn --data citations --regularizers none,hs-mhe --seeds 1 --first-seed 100 --jobs 1"
    output = ["--runs", str(tmp_path / "runs"), "--output", str(tmp_path / "out")]
    assert main([*argv.split(), "--settings", "epochs=2", "weight=0.1,1", *output]) == 0
    shown = capsys.readouterr().out
    for words in ("kipf, last epoch, accuracy", "penalty ms/step", "epochs=2 weight=0.1", "epochs=2 weight=1.0"):
        assert words in shown
    assert len(list((tmp_path / "runs" / "kipf").glob("*/seed100/result.json"))) == 3


@pytest.mark.parametrize("settings", [["epochs=5,precision=bf16"], ["epochs=5", "precision=bf16"]])
def test_all_options_reach_the_comparison(settings, monkeypatch, capsys):
    called = {}

    def compare(*args, **options):
        called.update(options, args=args)
        return Comparison([], options["runs"], [Record()] * 0, ["gcn.cora-none seed 0: it fails"])

    monkeypatch.setattr(module, "compare", compare)
    argv = ["compare", "--models", "gcn,gat", "--seeds", "2", "--recipe", "kipf,tuned", "--import", "json"]
    assert main([*argv, "--settings", *settings]) == 2
    assert capsys.readouterr().err == "comhe: 1 of 0 runs failed; the first: gcn.cora-none seed 0: it fails\n"
    assert called["args"] == ("gcn,gat", "cora,citeseer,pubmed", "none,hs-mhe,rp-comhe", 2)
    assert called["settings"] == {"epochs": [5], "precision": ["bf16"]}
    assert called["recipe"] == "kipf,tuned"
    assert called["plugins"] == ("json",)


def test_runs_that_jobs_have_not_done_yet_are_counted(monkeypatch, capsys):
    called = {}

    def compare(*args, **options):
        called.update(options)
        return Comparison([None] * 5, options["runs"], [])

    monkeypatch.setattr(module, "compare", compare)
    assert main(["compare", "--cluster", "slurm", "--submit-only", "--cluster-options", "time=9"]) == 0
    assert called["cluster"] == Cluster("slurm", {"time": 9}, wait=False)
    assert "5 runs are not done yet" in capsys.readouterr().out


def test_options_of_models_are_settings_too_and_rows_are_json(tmp_path, capsys, in_process):
    argv = ["compare", "--data", "citations", "--regularizers", "none", "--seeds", "1", "--json"]
    argv += ["--runs", str(tmp_path)]
    assert main([*argv, "--settings", "num_layers=2,3", "epochs=2"]) == 0
    assert [recipe.model_options for recipe in in_process] == [{"num_layers": 2}, {"num_layers": 3}]
    found = json.loads(capsys.readouterr().out)
    assert {row["settings"] for row in found["rows"]["kipf"]} == {"epochs=2 num_layers=2", "epochs=2 num_layers=3"}
    assert found["failures"] == []
    assert main([*argv, "--settings", "num_layer=2"]) == 2
    assert "did you mean num_layers" in capsys.readouterr().err

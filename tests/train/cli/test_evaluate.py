import json

import numpy as np
import pytest

from comhe.train.cli.main import main
from comhe.train.runs.run import Run, run_folder
from comhe.zoo import save_pretrained


def test_a_run_is_evaluated_again(finished, capsys):
    recipes, folder, _ = finished
    run = Run(run_folder(folder, recipes[2]))
    for which in ("best", "last"):
        assert main(["evaluate", str(run.folder), "--weights", which]) == 0
        accuracy = 100 * run.result()[which]["test_accuracy"]
        assert f"citations test: accuracy {accuracy:.2f} %" in capsys.readouterr().out


def test_pretrained_weights_have_the_metrics_of_their_card(capsys):
    assert main(["evaluate", "gcn.citations-rp-comhe"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(line.endswith(", as its card says") for line in lines)


def test_a_folder_of_weights_is_none_of_a_run(tmp_path, monkeypatch, capsys):
    """A bare path, as Hugging Face's packages take it, in all commands that take weights."""
    monkeypatch.chdir(tmp_path)
    save_pretrained("gcn.citations-none", "ours")
    for command, text in (
        ("evaluate ours", ", as its card says"),
        ("predict ours citations", "7: "),
        ("energy ours", "convs.0.lin"),
        ("train graphs --model gcn --data citations --epochs 1 --weights ours --runs runs", "weights_digest="),
    ):
        assert main(command.split()) == 0, command
        assert text in capsys.readouterr().out, command
    (tmp_path / "ours" / "model.json").unlink()
    assert main(["evaluate", "ours"]) == 2
    assert "there is no card model.json in it" in capsys.readouterr().err
    assert main(["evaluate", "ours", "--model", "gcn", "--data", "citations"]) == 0
    assert "citations test: accuracy" in capsys.readouterr().out


def test_figures_for_a_script(capsys):
    assert main(["evaluate", "gcn.citations-rp-comhe", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["data"] == "citations"
    assert all(found["metrics"][split]["accuracy"] == found["card"][split]["accuracy"] for split in ("val", "test"))


@pytest.fixture
def changed(tmp_path, monkeypatch, capsys):
    """A run on a graph of one's own, and the weights published from it; then the file gets other edges."""
    monkeypatch.chdir(tmp_path)

    def write(edges):
        y = np.arange(30) % 2
        np.savez("g.npz", x=np.eye(30), edge_index=[[*range(edges)], [*range(edges)]], y=y)

    write(30)
    assert main(["train", "graphs", "--data", "graph:g.npz", "--epochs", "1", "--tag", "own"]) == 0
    run = "runs/kipf/gcn.graph_g.npz-none+own/seed0"
    assert main(["publish", run, "--output", "published"]) == 0
    weights = "published/gcn.graph_g.npz-none-own.safetensors"
    for source in (run, weights):
        assert main(["evaluate", source]) == 0
    write(29)
    capsys.readouterr()
    return run, weights


def test_data_that_have_changed_since_are_not_split_anew_in_silence(changed, capsys):
    for source in changed:
        assert main(["evaluate", source]) == 2
        told = capsys.readouterr().err
        assert "the files of graph:g.npz have changed since" in told
        assert "tested on what it was trained on; restore the files, or name the data with --data to insist" in told
        assert main(["evaluate", source, "--data", "graph:g.npz"]) == 0
        said, told = capsys.readouterr()
        assert "graph:g.npz test: accuracy" in said
        assert "warning: the files of graph:g.npz have changed" in told
        assert "--data" not in told


def test_runs_whose_data_have_changed_since_are_not_published(changed, capsys):
    assert main(["publish", changed[0], "--output", "anew"]) == 2
    assert "restore the files, or train the run again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--weights last", "--weights is for a run; leave it out"),
        ("--weights last --model gcn --data citations", "--weights is for a run; leave it out"),
        ("--normalization imagenet", "--normalization is for a file of another implementation, with --model"),
        ("--key foo", "--key is for a file of another implementation, with --model; leave it out"),
        ("--model-options hidden_channels=3", "--model-options is for a file of another implementation"),
    ],
)
def test_options_for_something_else_are_refused(option, message, finished, capsys):
    recipes, folder, _ = finished
    assert main(["evaluate", "gcn.citations-rp-comhe", *option.split()]) == 2
    assert message in capsys.readouterr().err
    if "--weights" not in option:
        assert main(["evaluate", str(run_folder(folder, recipes[0])), *option.split()]) == 2
        assert message in capsys.readouterr().err

import pytest
import torch
from torch import nn

from comhe.regularizers import list_regularizers
from comhe.train.cli.main import main
from comhe.zoo import list_models

SHORT = ["--data", "citations", "--epochs", "3"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", "graphs", "--data", "coar"], "did you mean cora"),
        (["train", "graphs", "--model", "gnc"], "gcn"),
        (["train", "graphs", *SHORT, "--regularizer", "hs-mh"], "did you mean hs-mhe"),
        (["train", "graphs", *SHORT, "--regularizer", "mhe", "--regularizer-options", "dmi", "4"], "its options are"),
        (["train", "graphs", *SHORT, "--regularizer", "rp-comhe", "--regularizer-options", "dim", "1"], "at least 2"),
        (["train", "graphs", *SHORT, "--weight", "-1"], "must not be negative"),
        (["train", "graphs", *SHORT, "--model", "cnn9"], "comhe train images"),
        (["train", "graphs", *SHORT, "--recipe", "kip"], "did you mean kipf"),
        (["compare", "--recipe", "kip"], "did you mean kipf"),
        (["compare", "--seeds", "0"], "at least 1"),
        (["compare", "--settings", "epochs"], "name=value"),
        (["compare", "--settings", "epochs=0"], "epochs must be positive"),
        (["reproduce", "gnc"], "there are gcn, cnn-depth"),
        (["reproduce", "gcn", "--budget", "soon"], "20m"),
        (["reproduce", "gcn", "--seeds", "0"], "at least 1"),
        (["evaluate", "no-such-run"], "not a run folder, and unknown weights"),
        (["energy", "no-such-thing"], "neither a folder"),
        (["data", "cora", "--data-root", "no-such-folder"], "no-such-folder"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(words, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("urllib.request.urlopen", _offline)
    assert main(words) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("comhe: ")
    assert told in error


def _offline(*args, **options):
    raise OSError("no network in tests")


def test_unknown_commands_show_what_there_is(capsys):
    assert main(["trian"]) == 2
    assert "comhe train graphs" in capsys.readouterr().err
    assert main(["--help"]) == 0


def test_lists(capsys):
    for what, names in (("models", list_models()), ("regularizers", list_regularizers())):
        assert main(["list", what]) == 0
        assert capsys.readouterr().out.split() == names
    main(["list", "regularizers", "*comhe"])
    assert capsys.readouterr().out.split() == [name for name in list_regularizers() if name.endswith("comhe")]
    main(["list", "recipes"])
    assert "kipf" in capsys.readouterr().out


def test_train_evaluate_energy(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "graphs", *SHORT, "--regularizer", "hs-mhe", "--seed", "3"]) == 0
    trained = capsys.readouterr().out
    folder = "runs/kipf/gcn.citations-hs-mhe+epochs=3/seed3"
    assert folder in trained
    assert main(["evaluate", folder]) == 0
    again = capsys.readouterr().out
    accuracy = next(line for line in trained.splitlines() if "validation-selected" in line).split("test ")[1]
    assert f"accuracy {accuracy}" in again
    assert main(["energy", folder]) == 0
    assert "convs.0.lin.weight" in capsys.readouterr().out
    assert main(["energy", "gcn"]) == 0
    assert "16 x 1000" in capsys.readouterr().out
    assert main(["energy", "cnn6"]) == 0
    assert "256 x 4096" in capsys.readouterr().out


def test_energy_of_a_checkpoint_of_ones_own(capsys, tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(8, 4))
    torch.save({"state_dict": model.state_dict()}, tmp_path / "model.pt")
    assert main(["energy", str(tmp_path / "model.pt")]) == 0
    shown = capsys.readouterr().out
    assert "8 x 27" in shown
    assert "4 x 8" in shown


def test_data_describes(capsys):
    assert main(["data", "citations"]) == 0
    assert "2500" in capsys.readouterr().out

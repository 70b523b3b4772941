import pytest
import torch
from torch import nn

from comhe.train.cli.main import main
from comhe.train.runs.run import run_folder


@pytest.mark.parametrize(
    ("name", "shape"), [("gcn", "16 x 1000"), ("cnn6", "256 x 4096"), ("gcn.citations-rp-comhe", "16 x 1000")]
)
def test_a_model_or_pretrained_weights(name, shape, capsys):
    assert main(["energy", name]) == 0
    assert shape in capsys.readouterr().out


def test_a_run(finished, capsys):
    recipes, folder, _ = finished
    assert main(["energy", str(run_folder(folder, recipes[0]))]) == 0
    assert "convs.0.lin.weight" in capsys.readouterr().out


def test_a_state_dict_of_ones_own(capsys, tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(8, 4))
    torch.save({"state_dict": model.state_dict()}, tmp_path / "model.pt")
    assert main(["energy", str(tmp_path / "model.pt")]) == 0
    shown = capsys.readouterr().out
    assert "8 x 27" in shown
    assert "4 x 8" in shown
    torch.save({"bias": torch.zeros(3)}, tmp_path / "model.pt")
    assert main(["energy", str(tmp_path / "model.pt")]) == 2
    assert "no weight matrix" in capsys.readouterr().err

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations, prune

from comhe.regularizers import create_regularizer, diagnose
from comhe.regularizers.neurons import neurons
from comhe.train.cli.energy import _of_network, layers_of
from comhe.train.cli.main import main
from comhe.train.runs.run import run_folder
from comhe.zoo import create_model, get_weights


@pytest.mark.parametrize(
    ("name", "shape"), [("gcn", "16 x 1000"), ("cnn6", "256 x 4096"), ("gcn.citations-rp-comhe", "16 x 1000")]
)
def test_a_model_or_pretrained_weights(name, shape, capsys):
    assert main(["energy", name]) == 0
    assert shape in capsys.readouterr().out


def test_a_run(finished, capsys):
    recipes, folder, _ = finished
    assert main(["energy", str(run_folder(folder, recipes[0]))]) == 0
    assert "convs.0.lin" in capsys.readouterr().out


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


def test_weights_in_parts_are_computed_and_what_is_left_out_is_named(capsys, tmp_path):
    layers = {"lstm": nn.LSTM(5, 6), "normed": parametrizations.weight_norm(nn.Linear(6, 4)), "pruned": nn.Linear(4, 7)}
    model = nn.ModuleDict(layers | {"one": nn.Linear(7, 1)})
    prune.random_unstructured(model["pruned"], "weight", 0.5)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    assert main(["energy", str(tmp_path / "model.pt"), "--json"]) == 0
    shown = capsys.readouterr()
    expected = {f"{name}.weight": diagnose(model[name].weight).energy for name in ("normed", "pruned")}
    expected["lstm.weight_ih_l0"] = diagnose(neurons(model["lstm"])).energy
    assert {row["layer"]: row["energy"] for row in json.loads(shown.out)} == pytest.approx(expected)
    assert "left out lstm.weight_hh_l0: what is not named *weight" in shown.err
    assert "left out one.weight: one neuron has no angle" in shown.err
    assert "pruned" not in shown.err
    assert list(_of_network(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1)))) == ["0"]
    assert "left out 1 (1 neuron" in capsys.readouterr().err


@pytest.mark.parametrize(
    "layer",
    [
        *(nn.RNN(5, 6), nn.GRU(5, 6), nn.LSTM(5, 6, bidirectional=True), nn.LSTM(5, 6, proj_size=2)),
        *(nn.LSTMCell(5, 6), nn.MultiheadAttention(6, 2)),
    ],
    ids=str,
)
def test_gates_and_projections_of_a_state_dict_are_sets_as_those_of_the_layer(layer, tmp_path):
    torch.save({f"core.{key}": w for key, w in layer.state_dict().items()}, tmp_path / "model.pt")
    first, *_ = layers_of(str(tmp_path / "model.pt"), "best", "citations", 0, None).values()
    assert first.equal(neurons(layer).detach())


def test_one_of_several_state_dicts(capsys, tmp_path):
    first, second = nn.Linear(3, 5), nn.Linear(3, 7)
    file = str(tmp_path / "two.pt")
    torch.save({"state_dict": first.state_dict(), "state_dict_ema": second.state_dict()}, file)
    assert main(["energy", file]) == 2
    assert "choose one by --key 'state_dict' or 'state_dict_ema'" in capsys.readouterr().err
    assert main(["energy", file, "--key", "state_dict_ema"]) == 0
    assert "7 x 3" in capsys.readouterr().out
    assert main(["energy", file, "--key", "ema"]) == 2
    assert "there is no state dict at key='ema'" in capsys.readouterr().err
    torch.save({40: first.state_dict(), 80: second.state_dict()}, file)  # by epoch
    assert main(["energy", file, "--key", "80"]) == 0
    assert "7 x 3" in capsys.readouterr().out
    assert main(["energy", "resnet8.glyphs-none", "--key", "80"]) == 2
    assert "--key is for a file of several state dicts" in capsys.readouterr().err
    for path in (str(tmp_path / "gone"), "gone.pt"):
        assert main(["energy", path, "--key", "80"]) == 2
        assert capsys.readouterr().err == f"comhe: {path}: no such file or folder\n"
    assert main(["energy", "gone"]) == 2
    assert "neither a folder, nor a file" in capsys.readouterr().err


def test_layers_stand_in_the_order_of_the_network(capsys):
    order = [name for name, _ in create_model("resnet8", num_classes=36).named_modules()]
    names = list(layers_of("resnet8.glyphs-none", "best", "citations", 0, None))
    assert names == sorted(names, key=order.index)
    assert names[-1] == "fc"
    assert main(["energy", "resnet8.glyphs-none", "--json"]) == 0
    assert [row["layer"] for row in json.loads(capsys.readouterr().out)] == names


def test_a_file_that_sorts_its_tensors_is_read_with_numbers_as_numbers(tmp_path):
    state = {f"layers.{i}.weight": torch.randn(4, 3) for i in range(12)}
    save_file(state, tmp_path / "theirs.safetensors")
    assert list(layers_of(str(tmp_path / "theirs.safetensors"), "best", "citations", 0, None)) == list(state)
    backwards = dict(reversed(state.items()))
    torch.save(backwards, tmp_path / "theirs.pt")
    assert list(layers_of(str(tmp_path / "theirs.pt"), "best", "citations", 0, None)) == list(backwards)


@pytest.mark.parametrize("name", ["gat.pubmed-none", "pointnet.solids-none"])
def test_figures_are_those_of_the_report(name, capsys):
    """A layer of GAT has a set of neurons for each head, which a state dict does not tell."""
    rows = create_regularizer("mhe", get_weights(name).build()).report().layers
    assert main(["energy", name, "--json"]) == 0
    found = {row["layer"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(found) == [row.name for row in rows]
    for row in rows:
        assert found[row.name]["neurons"] == list(row.shape)
        assert found[row.name]["energy"] == pytest.approx(row.diagnostics.energy, rel=1e-5)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("resnet8.glyphs-none --weights last", "--weights is for a run folder; leave it out"),
        ("resnet8 --weights last", "--weights is for a run folder; leave it out"),
        ("resnet8.glyphs-none --seed 5", "--seed is for the name of a model; leave it out"),
        ("resnet8.glyphs-none --data cora", "--data is for the name of a graph model; leave it out"),
        ("resnet8 --data cora", "--data is for the name of a graph model; leave it out"),
    ],
)
def test_options_for_something_else_are_refused(argv, message, capsys):
    assert main(["energy", *argv.split()]) == 2
    assert message in capsys.readouterr().err

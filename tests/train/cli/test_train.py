import pytest
from torch import nn

from comhe.errors import UsageError
from comhe.regularizers import create_regularizer
from comhe.train.cli.main import main, parse
from comhe.train.recipe import get_recipe
from comhe.train.runs.run import Run
from comhe.train.task import check_recipe
from comhe.zoo import create_model
from comhe.zoo.registry import Entry, entries


def test_flags_are_the_fields_and_show_the_defaults_of_the_recipe_that_is_asked_for(capsys):
    assert main(["train", "images", "--recipe", "paper", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "step:0.4,0.6667,0.8667" in shown
    assert "(default: 214)" in shown
    assert "--domain" not in shown
    assert main(["train", "graphs", "--model", "gcn", "--regularizer", "rp-comhe", "--help"]) == 0
    assert "span=True" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "cell", "changes"),
    [
        ("graphs --data cora", ("kipf", "gcn", "cora", "none"), {}),
        ("graphs --recipe=tuned --regularizer=hs-mhe", ("tuned", "gcn", "cora", "hs-mhe"), {}),
        ("graphs --weight 2 --seed 3", ("kipf", "gcn", "cora", "none"), {"weight": 2.0, "seed": 3}),
        ("images --no-channels-last", ("modern", "resnet20", "cifar100", "none"), {"channels_last": False}),
        ("points --model-options k=7", ("modern", "pointnet", "modelnet40", "none"), {"model_options": {"k": 7}}),
    ],
)
def test_the_recipe_is_the_named_one_with_what_the_flags_change(argv, cell, changes):
    command = parse(["train", *argv.split()])
    assert command.named_recipe() == get_recipe(*cell, **changes)


def test_a_model_without_a_domain_is_not_trained(monkeypatch, capsys):
    monkeypatch.setitem(entries, "mine", Entry(nn.Linear, "custom"))
    assert main(["train", "images", "--model", "mine"]) == 2
    assert "cannot be trained; register it with @register_model(domain='images')" in capsys.readouterr().err


def test_options_are_added_to_those_of_the_named_recipe():
    command = ["train", "graphs", "--regularizer", "rp-comhe", "--regularizer-options"]
    named = get_recipe("kipf", "gcn", "cora", "rp-comhe").regularizer_options
    assert parse(command[:-1]).named_recipe().regularizer_options == named
    assert parse([*command, "dim=8"]).named_recipe().regularizer_options == named | {"dim": 8}
    assert parse([*command, "span=False"]).named_recipe().regularizer_options == named | {"span": False}


def test_weights_of_layers():
    command = ["train", "images", "--model", "cnn6", "--data", "glyphs", "--regularizer", "so", "--layer-weights"]
    recipe = parse([*command, "*.0=0.5", "*=0.1"]).named_recipe()
    assert recipe == get_recipe(None, "cnn6", "glyphs", "so", layer_weights={"*.0": 0.5, "*": 0.1})
    assert parse(command[:-1]).named_recipe() == get_recipe(None, "cnn6", "glyphs", "so")
    regularizer = create_regularizer("so", create_model("cnn6", num_classes=10), **recipe.penalty_weights())
    weights = {row.name: row.weight for row in regularizer.report().layers}
    assert set(weights.values()) == {0.1, 0.5}
    assert all((weight == 0.5) is name.endswith(".0") for name, weight in weights.items())
    with pytest.raises(UsageError, match=r"weight\['head'\] names no regularized layer"):
        check_recipe(parse([*command, "head=10"]).named_recipe())
    check_recipe(recipe)


def test_runs_with_other_settings_have_folders_of_their_own(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = "train graphs --data citations --regularizer hs-mhe --seed 3"
    for settings, folder in (
        ("--epochs 2", "gcn.citations-hs-mhe+epochs=2"),
        ("--epochs 3", "gcn.citations-hs-mhe+epochs=3"),
        ("--epochs 2 --tag mine", "gcn.citations-hs-mhe+mine"),
    ):
        assert main([*command.split(), *settings.split()]) == 0
        shown = capsys.readouterr().out
        assert f"runs/kipf/{folder}/seed3" in shown
        result = Run(tmp_path / "runs" / "kipf" / folder / "seed3").result()
        assert f"test {100 * result['best']['test_accuracy']:.2f} %" in shown
    assert main(["report", "runs"]) == 0
    assert "3 runs" in capsys.readouterr().out

import json

import pytest

from comhe.regularizers import list_regularizers, regularizer_options
from comhe.train.cli.main import main
from comhe.train.recipe import domains, get_recipe, list_recipes
from comhe.zoo import list_models, model_options


@pytest.mark.parametrize("domain", domains())
def test_a_recipe_is_shown_with_all_its_settings(domain, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for name in list_recipes(domain):
        assert main(["show", "recipe", name, "--domain", domain]) == 0
        shown = capsys.readouterr().out
        assert all(len(line) <= 80 for line in shown.splitlines())
        assert all(f"\n{setting} " in shown for setting in ("epochs", "lr", "schedule", "weight_decay"))
        assert main(["show", "recipe", name, "--domain", domain, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)[domain]["recipe"] == name


def test_a_recipe_is_that_of_the_cell(capsys):
    argv = ["show", "recipe", "kipf", "--data", "citeseer", "--regularizer", "hs-mhe", "--json"]
    assert main(argv) == 0
    recipe = get_recipe("kipf", "gcn", "citeseer", "hs-mhe")
    assert json.loads(capsys.readouterr().out)["graphs"]["weight"] == recipe.weight


@pytest.mark.parametrize("name", list_regularizers())
def test_a_regularizer_is_shown_with_its_options(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["show", "regularizer", name]) == 0
    shown = capsys.readouterr().out
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert all(f"\n{option} " in shown for option in regularizer_options(name))
    assert "``" not in shown
    assert ":func:" not in shown


@pytest.mark.parametrize("name", ["gcn", "resnet20", "pointnet", "dgcnn"])
def test_a_model_is_shown_with_its_options_and_weights(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["show", "model", name]) == 0
    shown = capsys.readouterr().out
    assert "parameters" in shown
    assert all(f"\n{option} " in shown for option in model_options(name))
    assert main(["show", "model", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["options"] == model_options(name)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["recipe", "papr"], "did you mean paper?"),
        (["regularizer", "rp-comh"], "did you mean rp-comhe"),
        (["model", "resnet21"], "did you mean resnet"),
    ],
)
def test_a_mistyped_name_is_suggested(argv, message, capsys):
    assert main(["show", *argv]) == 2
    assert message in capsys.readouterr().err


def test_every_model_is_known():
    assert all(isinstance(model_options(name), dict) for name in list_models())


@pytest.mark.parametrize("option", ["domain", "model", "data", "regularizer"])
def test_options_of_recipes_are_refused_for_others(option, capsys):
    for what in ("regularizer rp-comhe", "model gcn"):
        assert main(["show", *what.split(), f"--{option}", "foo"]) == 2
        assert f"--{option} is for recipes; leave it out" in capsys.readouterr().err

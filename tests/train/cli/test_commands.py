"""Runs as lines of shell: what is printed is parsed to the very same recipe."""

import shlex

import pytest

from comhe.train import get_recipe
from comhe.train.cli.commands import train_arguments
from comhe.train.cli.main import main, parse
from comhe.train.recipe import domains, find_domain
from comhe.train.runs.launch import fit
from comhe.train.start import with_start

CELLS = {"graphs": ("gcn", "citations"), "images": ("resnet8", "glyphs"), "points": ("pointnet", "solids")}
CHANGES = {  # one of each kind of value
    "graphs": {"weight": 1e-07, "hidden_channels": 24, "decay": "first", "tag": "mine", "output_weight": 0.0},
    "images": {"lr": 0.1 + 0.2, "nesterov": False, "schedule": "step:0.5,0.75", "compile": True, "precision": "bf16"},
    "points": {"weight": 3.0, "epochs": 7, "label_smoothing": 0.0, "energies": 2, "warmup": 0.1},
}


def same(recipe):
    argv = shlex.split(shlex.join(train_arguments(recipe)))
    parsed = parse(argv).named_recipe()
    assert parsed == recipe
    assert parsed.digest == recipe.digest


@pytest.mark.parametrize("domain", CELLS)
@pytest.mark.parametrize("regularizer", ["none", "rp-comhe"])
def test_a_line_is_parsed_to_its_recipe(domain, regularizer):
    for name in find_domain(domain).recipes:
        named = get_recipe(name, *CELLS[domain], regularizer)
        same(named)
        same(named.replace(seed=12, **CHANGES[domain]))


def test_every_domain_is_tried():
    assert set(CELLS) <= set(domains())


@pytest.mark.parametrize("value", [3, 3.0, 1e-300, -1, True, False, "both", "true", "3", "none", "it's; rm -rf $HOME"])
def test_options_keep_their_values_and_types(value):
    base = get_recipe("kipf", "gcn", "citations", "rp-comhe")
    same(base.replace(regularizer_options=base.regularizer_options | {"span": value, "other": value}))
    same(base.replace(model_options={"dropout": value}))


def test_starting_weights_and_data_with_odd_names():
    recipe = get_recipe("kipf", "gcn", "cora", "none", weights="gcn.cora-none", seed=3, swap_head=True)
    same(with_start(recipe))
    same(get_recipe("short", "resnet8", "folder:my photos/it's", "none"))


def test_compare_prints_a_line_for_each_missing_run(tmp_path, capsys):
    argv = ["compare", "--data", "citations", "--regularizers", "none,rp-comhe", "--seeds", "2", "--print-commands"]
    argv += ["--settings", "epochs=2", "dim=5,6", "--runs", str(tmp_path), "--device", "cpu", "--import", "json"]
    assert main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    commands = [parse(shlex.split(line)[1:]) for line in lines]
    assert all(line.startswith("comhe train graphs ") for line in lines)
    assert {(c.runs, c.device, c.modules) for c in commands} == {(tmp_path, "cpu", ("json",))}
    recipes = [command.named_recipe() for command in commands]
    assert sorted(recipe.regularizer_options.get("dim", 0) for recipe in recipes) == [0, 0, 5, 5, 6, 6]
    assert list(tmp_path.iterdir()) == []
    fit(recipes[0], runs=tmp_path)
    assert main(argv) == 0
    assert capsys.readouterr().out.splitlines() == lines[1:]


def test_reproduce_prints_them_too(tmp_path, capsys):
    argv = ["reproduce", "gcn", "--seeds", "1", "--settings", "epochs=2", "--print-commands", "--runs", str(tmp_path)]
    assert main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert {parse(shlex.split(line)[1:]).named_recipe().epochs for line in lines} == {2}

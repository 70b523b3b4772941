"""The help of every command fits, names true defaults, and does not wait for torch."""

import re
import subprocess
import sys

import pytest

from comhe.regularizers import regularizer_options
from comhe.train.cli.main import COMMANDS, main, parse
from comhe.train.recipe import domains, find_domain

NAMES = [[], *([command.__name__.lower()] for command in COMMANDS), ["train"], *(["train", d] for d in domains())]


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("words", NAMES, ids=" ".join)
def test_every_help_fits_says_what_it_does_and_shows_an_example(words, width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(len(line) <= width for line in shown.splitlines()), max(shown.splitlines(), key=len)
    assert shown.startswith("usage: comhe")
    assert "\nexamples:\n" in shown
    assert "None" not in shown
    assert "{None}" not in shown
    assert "…" not in shown


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_examples_are_understood(command, tmp_path, monkeypatch):
    assert command.examples
    for line in command.examples:
        if line.startswith("comhe ") and ">" not in line:
            assert isinstance(parse([word.strip("'") for word in line.split()[1:]]), command)


def test_help_is_also_a_command(capsys):
    assert main(["help", "compare"]) == main(["compare", "-h"]) == 0
    first, second = capsys.readouterr().out.split("usage:")[1:]
    assert first.strip() == second.strip()


@pytest.mark.parametrize(
    ("argv", "texts"),
    [
        (
            ["images"],
            ["{modern,paper,short,one_cycle,airbench", "(default: modern)", "(default: 200)", "{sgd,adam,adamw}"],
        ),
        (["images", "--recipe", "paper"], ["(default: 214)", "(default: step:0.4,0.6667,0.8667)"]),
        (["points"], ["{fp32,bf16,auto}", "(default: adamw)", "(default: 0.001)"]),
        (["graphs", "--regularizer", "mma"], ["(default: 0.07, the regularizer's own)"]),
        (["graphs", "--model", "gat"], ["output_heads="]),
    ],
)
def test_defaults_are_those_of_the_named_recipe(argv, texts, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["train", *argv, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for text in texts:
        assert text in shown


def test_options_of_the_regularizer_have_their_defaults(capsys):
    main(["train", "graphs", "--regularizer", "rp-comhe", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    options = regularizer_options("rp-comhe")
    assert f"dim={options['dim']} count={options['count']}" in shown
    assert "span=True" in shown, "as the recipe has it"


def test_every_setting_of_a_recipe_is_an_option_in_a_group(capsys):
    for domain in domains():
        main(["train", domain, "--help"])
        shown = capsys.readouterr().out
        headings = re.findall(r"^([a-z ]+):$", shown, re.MULTILINE)
        assert {"what is trained", "regularizer", "training", "starting from weights"} <= set(headings)
        for name in vars(find_domain(domain).recipe()):
            assert (f"--{name.replace('_', '-')}" in shown) is (name not in ("domain", "weights_digest"))


@pytest.mark.parametrize("words", [["--help"], ["compare", "--help"], ["energy", "--help"], ["--version"]])
def test_help_does_not_wait_for_torch(words):
    code = "import sys; from comhe.train.cli.main import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-P", "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

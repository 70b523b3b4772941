import json
import subprocess
import sys

import pytest

from comhe.datasets import list_data
from comhe.regularizers import Penalty, list_regularizers, register_regularizer, registry
from comhe.train.cli.main import main
from comhe.train.recipe import domains, list_recipes
from comhe.zoo import get_weights, list_models, list_weights

LISTS = {
    "models": list_models,
    "datasets": list_data,
    "regularizers": list_regularizers,
    "recipes": lambda: [name for domain in domains() for name in list_recipes(domain)],
    "weights": list_weights,
}


@pytest.mark.parametrize("what", LISTS)
def test_every_name_is_a_line_and_an_entry_of_the_json(what, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert main(["list", what]) == 0
    shown = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in shown[2:]] == list(LISTS[what]())
    assert main(["list", what, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [next(iter(row.values())) for row in found] == list(LISTS[what]())
    assert all(row.get("what it is", "none") not in ("", None) for row in found), "each says what it is"


def test_a_pattern_selects(capsys):
    assert main(["list", "regularizers", "*comhe", "--json"]) == 0
    names = [row["regularizer"] for row in json.loads(capsys.readouterr().out)]
    assert names == [name for name in list_regularizers() if name.endswith("comhe")]
    main(["list", "weights", "gcn", "--json"])
    assert all(row["weights"].startswith("gcn.") for row in json.loads(capsys.readouterr().out))
    assert main(["list", "models", "nothing*"]) == 0
    assert "no name of models matches nothing*" in capsys.readouterr().out


def test_figures_are_those_of_the_card(capsys):
    main(["list", "weights", "gcn.cora-rp-comhe", "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    card = get_weights("gcn.cora-rp-comhe").card
    assert row["test %"] == pytest.approx(100 * card["metrics"]["test"]["accuracy"])
    over = card["seeds"]["best"]["test_accuracy"]
    assert [row["mean %"], row["std %"]] == pytest.approx([100 * over["mean"], 100 * over["std"]])
    assert row["seeds"] == card["seeds"]["n"]
    assert row["data"] == "cora"
    assert row["MB"] == card["bytes"] / 1e6
    main(["list", "weights", "gcn.cora-rp-comhe"])
    assert f"{row['test %']:.2f}" in capsys.readouterr().out


def test_a_closed_pipe_is_no_error():
    script = (
        "import os, sys; from comhe.train.cli.main import main; r, w = os.pipe(); os.close(r); os.dup2(w, 1);"
        "sys.exit(main(['list', 'datasets']))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""


def test_what_has_no_docstring_says_nothing(monkeypatch, capsys):
    """And not what its base class does: that of every network, or of every penalty."""
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    register_regularizer("undocumented")(
        type("Undocumented", (Penalty,), {"function": lambda self, w: w.sum((-2, -1))})
    )
    assert main(["list", "regularizers", "undocumented", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["what it is"] == ""

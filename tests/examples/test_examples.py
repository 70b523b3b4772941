"""The examples run, in a smaller form, and do what they are there to show."""

import math
import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))


def main_of(name):
    return runpy.run_path(str(FOLDER / f"{name}.py"))["main"]


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No example needs a network, or files that are not its own."""

    def refuse(*args, **options):
        raise OSError("no network in tests")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setenv("COMHE_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_how_to_run_it(path):
    text = path.read_text()
    assert len(text.splitlines()) < 80
    assert f"`python examples/{path.name}`" in text.split('"""')[1]
    assert f"def test_{path.stem}" in Path(__file__).read_text()


def test_own_cnn(capsys):
    found = main_of("own_cnn")(epochs=1, seeds=1)
    assert found.keys() == {"none", "rp-comhe"}
    assert all(15 < accuracy < 100 for accuracies in found.values() for accuracy in accuracies)
    shown = capsys.readouterr().out
    assert "seed 0: none" in shown
    assert "by its name" in shown  # of the output layer


def test_transformers_fine_tuning(capsys):
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    found = main_of("transformers_fine_tuning")(steps=20, count=64)
    assert found["after"] < found["before"]
    assert math.isfinite(found["loss"])
    assert "'penalty'" in capsys.readouterr().out  # the callback's log


def test_own_graph(capsys):
    found = main_of("own_graph")(epochs=40)
    assert found["test"] > 60  # a third by chance
    assert "conv1.lin" in capsys.readouterr().out


def test_class_prototypes():
    found = main_of("class_prototypes")()
    assert 0 <= found["excess"] < 1e-7
    assert abs(found["angle"] - found["simplex angle"]) < 0.1


@pytest.mark.parametrize(("classes", "dim"), [(2, 2), (3, 2), (5, 4), (20, 40)])
def test_least_energy_is_the_simplex_wherever_it_fits(classes, dim):
    functions = runpy.run_path(str(FOLDER / "class_prototypes.py"))
    w = functions["spread"](classes, dim)
    cosines = (w @ w.T).fill_diagonal_(-1 / (classes - 1))
    assert (cosines + 1 / (classes - 1)).abs().max() < 1e-3

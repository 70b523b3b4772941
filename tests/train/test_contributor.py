"""A person's own penalty, model, data set and recipe, in a module of theirs, do all that the built-in ones do."""

import csv
import json
import os
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from ..forks import python

PLUGIN = '''
import torch
from torch import nn

from comhe.datasets import Images, register_dataset
from comhe.regularizers import Penalty, register_regularizer
from comhe.train import ImageRecipe, register_recipe
from comhe.zoo import register_model


@register_regularizer("my-penalty")
class MyPenalty(Penalty):
    """Mean power of the cosines between neurons."""

    def __init__(self, *, power: float = 2.0) -> None:
        self.power = power

    def function(self, w):
        unit = nn.functional.normalize(w, dim=-1)
        return (unit @ unit.mT).abs().pow(self.power).mean((-2, -1))


@register_model(domain="images")
def my_cnn(num_classes: int = 3, width: int = 6):
    layers = nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes)
    return nn.Sequential(*layers)


@register_dataset("my-stripes", domain="images", license="mine")
def my_stripes(root):
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    stripes = torch.arange(8)[None] // 2 ** labels[:, None] % 2
    pixels = 150 * stripes[:, None, :, None] + torch.randint(0, 90, (60, 8, 8, 3), generator=draw)
    pixels = pixels.to(torch.uint8)
    return Images.from_arrays("my-stripes", train=(pixels[:45], labels[:45]), test=(pixels[45:], labels[45:]))


register_recipe(ImageRecipe(recipe="my-recipe", epochs=2, batch_size=8, lr=0.05))
'''
CELL = "--recipe my-recipe --model my_cnn --data my-stripes"
COMMANDS = (
    "list models my_*",
    f"train images {CELL} --regularizer my-penalty --regularizer-options power=3",
    f"train images {CELL} --regularizer my-penalty --model-options width=4 --tag narrow",
    "compare --recipe my-recipe --models my_cnn --data my-stripes --regularizers none,my-penalty --seeds 2 --jobs 1 "
    "--settings power=2,4 --output out",
    "evaluate runs/my-recipe/my_cnn.my-stripes-my-penalty+power=3/seed0",
    "energy runs/my-recipe/my_cnn.my-stripes-my-penalty+narrow/seed0",
    "energy my_cnn",
    "data my-stripes",
    "report runs --output page.html",
    "publish runs/my-recipe/my_cnn.my-stripes-my-penalty+power=2/seed0 "
    "runs/my-recipe/my_cnn.my-stripes-my-penalty+power=2/seed1 --output weights",
    "evaluate weights/my_cnn.my-stripes-my-penalty.json",
)
DRIVER = """
import sys
from comhe.train.cli.main import main

if __name__ == "__main__":  # worker processes import this file
    for command in open("commands.txt"):
        print("$", command.strip(), flush=True)
        if main([*command.split(), "--import", "my_plugin"]):
            sys.exit(1)
    from comhe.datasets import load_images
    from comhe.zoo import get_weights

    images = load_images("my-stripes").get_split("test").pixels
    print("predicted", tuple(get_weights("weights/my_cnn.my-stripes-my-penalty.json").predict(images).shape))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the module, in which all commands have been run in one process."""
    folder = tmp_path_factory.mktemp("contributor")
    (folder / "my_plugin.py").write_text(PLUGIN)
    (folder / "driver.py").write_text(DRIVER)
    (folder / "commands.txt").write_text("\n".join(COMMANDS))
    done = run(folder, "driver.py")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "shown.txt").write_text(done.stdout)
    return folder


def run(folder: Path, *arguments: str) -> CompletedProcess:
    return python(*arguments, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"})


def test_every_command_knows_what_the_module_registers(folder):
    shown = (folder / "shown.txt").read_text().split("$ ")[1:]
    of = {text.split("\n")[0]: text for text in shown}
    assert "\nmy_cnn " in of["list models my_*"]
    assert "6 x 27" in of["energy my_cnn"]
    assert "4 x 27" in of[COMMANDS[5]]
    assert "15" in of["data my-stripes"]
    assert "as its card says" in of[COMMANDS[-1]]
    assert "predicted (15, 3)" in of[COMMANDS[-1]]


def test_the_comparison_trained_each_variant_in_worker_processes(folder):
    rows = list(csv.DictReader((folder / "out" / "my-recipe.csv").open()))
    assert {(row["regularizer"], row["settings"], row["n"]) for row in rows} == {
        ("none", "", "2"),
        ("my-penalty", "power=2", "2"),
        ("my-penalty", "power=4", "2"),
    }


def test_the_page_shows_every_variant(folder):
    text = (folder / "page.html").read_text()
    for name in ("my-penalty power=3", "my-penalty narrow", "my-stripes", "my-recipe"):
        assert name in text
    assert "Left out" not in text


def test_the_card_has_the_license_and_the_recipe(folder):
    card = json.loads((folder / "weights" / "my_cnn.my-stripes-my-penalty.json").read_text())
    assert card["data"]["license"] == "mine"
    assert card["recipe"]["recipe"] == "my-recipe"
    assert card["seeds"]["n"] == 2


def test_without_the_module_the_names_are_unknown(folder):
    command = f"train images {CELL}".split()
    alone = run(folder, "-m", "comhe", *command)
    assert alone.returncode == 2
    assert "unknown model 'my_cnn'" in alone.stderr
    with_it = run(folder, "-m", "comhe", *command, "--import=my_plugin", "--seed", "9")
    assert with_it.returncode == 0, with_it.stderr
    assert "my_cnn.my-stripes-none/seed9" in with_it.stdout

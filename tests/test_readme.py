"""Every command and every Python block of the README is executed, in its order and in one folder, without a network."""

import glob
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from comhe.datasets import list_data
from comhe.train.cli import main as cli
from comhe.train.compare.compare import check, plan
from comhe.train.compare.reproduce import PUBLISHED, recipes
from comhe.train.runs import launch
from comhe.zoo import list_weights

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
FENCED = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
MODULE = "# my_module.py\n"  # the first line of the block that is a module, which commands import
PYTHON = [text for language, text in FENCED if language == "python" and not text.startswith(MODULE)]
COMMANDS = [
    line.partition("  #")[0].strip() for language, text in FENCED if not language for line in text.splitlines() if line
]
INLINE = re.findall(r"`(comhe [a-z][^`\n]*)`", README)

# What is executed in place of a command that needs a download or a long training: the same on built-in data. Every
# command that is not named here is executed as it stands.
INSTEAD = {
    "comhe train graphs --model gcn --data cora --regularizer rp-comhe --seed 0": (
        "comhe train graphs --model gcn --data citations --regularizer rp-comhe --seed 0 --epochs 3"
    ),
    "comhe train images --model cnn9 --data cifar100 --regularizer rp-comhe --recipe modern --precision auto": (
        "comhe train images --model resnet8 --data folder:stripes --regularizer rp-comhe --recipe modern "
        "--precision bf16 --epochs 1 --batch-size 9"
    ),
    "comhe compare --models gcn --data cora,citeseer,pubmed --regularizers none,hs-mhe,rp-comhe,ap-comhe --seeds 100": (
        "comhe compare --models gcn --data citations --regularizers none,hs-mhe,rp-comhe,ap-comhe --seeds 1 "
        "--settings epochs=3"
    ),
    "comhe reproduce gcn --seeds 5 --budget 20m": "comhe reproduce gcn --seeds 1 --budget 20m --settings epochs=3",
    "comhe evaluate runs/kipf/gcn.cora-rp-comhe/seed0": (
        "comhe evaluate runs/kipf/gcn.citations-rp-comhe+epochs=3/seed0"
    ),
    "comhe evaluate resnet20.cifar100-rp-comhe": "comhe evaluate gcn.citations-rp-comhe",
    "comhe energy runs/kipf/gcn.cora-rp-comhe/seed0": "comhe energy runs/kipf/gcn.citations-rp-comhe+epochs=3/seed0",
    "comhe publish runs/kipf/gcn.cora-rp-comhe/seed* --output my-weights": (
        "comhe publish runs/kipf/gcn.citations-rp-comhe+epochs=3/seed* --output my-weights"
    ),
    "comhe data cora": "comhe data citations",
    "comhe train images --data folder:my-photos --weights resnet20.cifar100-rp-comhe --swap-head --tag mine": (
        "comhe train images --data folder:stripes --weights resnet8.glyphs-none --swap-head --tag mine "
        "--epochs 1 --batch-size 9"
    ),
    "comhe predict runs/modern/resnet20.folder_my-photos-none+mine/seed0 photo.jpg --output classes.csv": (
        "comhe predict runs/modern/resnet8.folder_stripes-none+mine/seed0 photo.jpg --output classes.csv"
    ),
}
# Executed by the repository's own checks from a fresh clone, and not again inside of one of them.
FRESH = ("make demo", "make test")


@pytest.fixture
def folder(folder, tmp_path, monkeypatch):
    """An empty working folder with a photo and a folder of images; jobs run in this process, the network is cut off."""

    def in_turn(work, jobs, processes, seconds, ended, *_):
        for job in jobs:
            work(job)
            ended(job, None)

    def offline(*args, **options):
        raise OSError("no network in tests")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMHE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setattr(launch, "run_all", in_turn)
    # The paper's tables are of data that have to be downloaded: here the row of Cora stands for the built-in graph.
    monkeypatch.setitem(
        PUBLISHED, "gcn", PUBLISHED["gcn"] | {"cells": {"gcn.citations": PUBLISHED["gcn"]["cells"]["gcn.cora"]}}
    )
    Path("stripes").symlink_to(folder)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3))
    Image.fromarray(pixels.astype(np.uint8)).save("photo.jpg")
    return tmp_path


def test_nothing_is_declared_that_the_readme_does_not_say():
    assert set(INSTEAD) | set(FRESH) <= set(COMMANDS)
    assert all(language in ("", "python") for language, _ in FENCED)
    assert all(re.search(rf"^{words.split()[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE) for words in FRESH)


def test_links_lead_somewhere():
    targets = re.findall(r"\]\(([^)#:]+)\)", README)
    assert any(target.endswith(".svg") for target in targets)
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_commands_run(folder, capsys):
    for command in COMMANDS:
        if command in FRESH:
            continue
        program, *words = shlex.split(INSTEAD.get(command, command))
        assert program == "comhe", f"{command} is neither declared here nor a command of this package"
        if "--import" in words:  # in a process of its own: what the module registers stays registered
            continue
        words = [found for word in words for found in (sorted(glob.glob(word)) if "*" in word else [word])]
        assert cli.main(words) == 0, f"{command}: {capsys.readouterr().err}"
    shown = capsys.readouterr().out
    assert "page.html: " in shown
    assert "classes.csv: the classes of 1 input" in shown
    assert "accuracy 81.50 %" in shown  # of the pretrained network
    assert "as its card says" in shown
    assert (folder / "my-weights" / "gcn.citations-rp-comhe.safetensors").exists()
    assert "Left out" not in (folder / "page.html").read_text()


def test_a_module_of_ones_own_is_known_to_the_commands(folder):
    (module,) = (text for _, text in FENCED if text.startswith(MODULE))
    Path("my_module.py").write_text(module)
    commands = [command for command in COMMANDS if "--import my_module" in command]
    assert len(commands) == 2
    for command in commands:
        words = [sys.executable, "-P", "-m", *shlex.split(command)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
    assert Path("runs/my-recipe/my_cnn.my-stripes-my-penalty+weight=0.1/seed0/result.json").exists()


@pytest.mark.parametrize("command", [*INSTEAD, *INLINE])
def test_commands_as_written_are_understood(command, tmp_path, monkeypatch):
    """The parser takes them, and every name in them exists."""
    monkeypatch.chdir(tmp_path)
    Path("my-photos").mkdir()
    argv = shlex.split(command)[1:]
    if len(argv) == 1:  # only named
        assert argv[0] in ("train", *(known.__name__.lower() for known in cli.COMMANDS))
        return
    if "--help" in argv:
        with pytest.raises(SystemExit, match="0"):
            cli.parse(argv)
        return
    match parsed := cli.parse(argv):
        case cli.Train():
            check([parsed.named_recipe()], "cpu", 1)
        case cli.Compare():
            check(plan(parsed.models, parsed.data, parsed.regularizers, [0], parsed.recipe), "cpu", 1)
        case cli.Reproduce():
            check(recipes(parsed.table, [0], parsed.recipe), "cpu", 1)
        case cli.Data():
            assert parsed.name in list_data()
        case cli.Evaluate() | cli.Predict():
            assert parsed.source in list_weights() or parsed.source.startswith("runs/")


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.splitlines()[0])
def test_python_runs(block, folder):
    exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})

"""Every block of the README and of the documentation is executed, page by page, in one process and without a network.

Python blocks of a page share a namespace; a ``text`` block below one is what it prints. All pages share one folder, so
that a command that stands on several of them trains once. The blocks between a line ``<!-- needs: PACKAGE -->`` and the
next heading are skipped where the package is missing.
"""

import ast
import contextlib
import doctest
import glob
import importlib
import io
import json
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from PIL import Image

import comhe.datasets.registry
import comhe.regularizers.registry
import comhe.zoo.registry
from comhe.datasets import list_data
from comhe.regularizers import list_regularizers
from comhe.train.cli import main as cli
from comhe.train.compare import search
from comhe.train.compare.compare import check, plan
from comhe.train.compare.reproduce import PUBLISHED, recipes
from comhe.train.recipe import domains, find_domain
from comhe.train.runs import launch
from comhe.zoo import list_models, list_weights

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
MODULE = "# my_module.py\n"  # the first line of the block that is a module, which commands import
LANGUAGES = {"python", "sh", "text", "toml", "{toctree}", "{include}"}
SETUP = ("make demo", "make test", "pip install", ". .venv/bin/activate")  # done by the repository's own checks

# What is executed in place of a command that needs a download or a long training: the same on built-in data. Every
# command that is not named here is executed as it stands.
SWEEP = "comhe compare --models gcn"
CITATIONS = "runs/kipf/gcn.citations-rp-comhe+epochs=3"
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
    "comhe compare --models gcn --data citations --regularizers none,hs-mhe --seeds 2 --settings epochs=20": (
        "comhe compare --models gcn --data citations --regularizers none,hs-mhe --seeds 2 --settings epochs=3"
    ),
    f"{SWEEP} --data cora --regularizers none,rp-comhe --settings weight=0.1,1 dim=30,40 epochs=100": (
        f"{SWEEP} --data citations --regularizers none,rp-comhe --settings weight=0.1,1 dim=30,40 epochs=2 --seeds 1"
    ),
    f"{SWEEP} --data cora --regularizers none,hs-mhe --settings weight=0.1,1,10 --seeds 5": (
        f"{SWEEP} --data citations --regularizers none,hs-mhe --settings weight=0.1,1 epochs=2 --seeds 1"
    ),
    f"{SWEEP} --data cora --regularizers none,hs-mhe --settings labels_per_class=1,2,5 --seeds 10": (
        f"{SWEEP} --data citations --regularizers none,hs-mhe --settings labels_per_class=1,2,5 epochs=2 --seeds 2"
    ),
    f"{SWEEP} --data cora-random --regularizers none,hs-mhe --seeds 100": (
        f"{SWEEP} --data citations-random --regularizers none,hs-mhe --seeds 2 --settings epochs=2"
    ),
    "comhe reproduce gcn --seeds 5 --budget 20m": "comhe reproduce gcn --seeds 1 --budget 20m --settings epochs=3",
    "comhe reproduce all --results results/*/*-runs.csv": f"comhe reproduce all --results {ROOT}/results/*/*-runs.csv",
    "comhe evaluate runs/kipf/gcn.cora-rp-comhe/seed0": f"comhe evaluate {CITATIONS}/seed0",
    "comhe evaluate airbench94.cifar10-rp-comhe": "comhe evaluate gcn.citations-rp-comhe",
    "comhe energy runs/kipf/gcn.cora-rp-comhe/seed0": f"comhe energy {CITATIONS}/seed0",
    "comhe publish runs/kipf/gcn.cora-rp-comhe/seed* --output my-weights": (
        f"comhe publish {CITATIONS}/seed* --output my-weights"
    ),
    "comhe data cora": "comhe data citations",
    "comhe train images --data folder:my-photos --weights airbench94.cifar10-rp-comhe --swap-head --tag mine": (
        "comhe train images --data folder:stripes --weights resnet8.glyphs-none --swap-head --tag mine "
        "--epochs 1 --batch-size 9"
    ),
    "comhe predict runs/modern/airbench94.folder_my-photos-none+mine/seed0 photo.jpg --output classes.csv": (
        "comhe predict runs/modern/resnet8.folder_stripes-none+mine/seed0 photo.jpg --output classes.csv"
    ),
}
# What is only read by the parser: on a cluster, or the hours behind the committed results.
PARSED = re.compile(
    r"^torchrun|^srun|--cluster slurm|^python -m comhe\.train\.compare\.search"
    r"|--recipe (short|paper|kipf|tuned|one_cycle|airbench|published|few_labels|noisy_labels|deep)"
)


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    expected: str | None = None
    needs: tuple[str, ...] = ()


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, each with the output that stands below it."""
    found: list[Block] = []
    needs: tuple[str, ...] = ()
    pattern = r"^(?:<!-- needs: (?P<needs>.*?) -->|(?P<heading>## )|```(?P<language>\S*)\n(?P<text>.*?)^```)"
    last = 0
    for match in re.finditer(pattern, text, re.MULTILINE | re.DOTALL):
        if match["heading"] or match["needs"]:
            needs = tuple((match["needs"] or "").replace(",", " ").split())
            continue
        if match["language"] == "text":
            assert found[-1].language == "python", f"no Python block above {match['text']!r}"
            assert not text[last : match.start()].strip(), f"there is text above the output {match['text']!r}"
            found[-1] = Block("python", found[-1].text, match["text"], needs)
        else:
            found.append(Block(match["language"], match["text"], None, needs))
        last = match.end()
    return found


def commands(block: Block) -> list[str]:
    return [line.partition("  #")[0].strip() for line in block.text.splitlines() if line.strip()]


BLOCKS = {page: blocks(page.read_text()) for page in PAGES}
COMMANDS = list(dict.fromkeys(c for each in BLOCKS.values() for b in each if b.language == "sh" for c in commands(b)))
INLINE = list(dict.fromkeys(c for page in PAGES for c in re.findall(r"`(comhe [a-z][^`\n]*)`", page.read_text())))


def test_nothing_is_declared_that_the_pages_do_not_say():
    assert set(INSTEAD) <= set(COMMANDS)
    assert {block.language for each in BLOCKS.values() for block in each} <= LANGUAGES
    targets = [words.split()[1] for words in COMMANDS if words.startswith("make ")]
    assert {"demo", "test"} <= set(targets)
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_links_lead_somewhere():
    for page in PAGES:
        targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
        assert [target for target in targets if not (page.parent / target).exists()] == [], page


def test_the_readme_is_short_and_has_its_parts():
    text = (ROOT / "README.md").read_text()
    prose = re.sub(r"<!-- table.*?end of table -->", "", text, flags=re.DOTALL)
    assert 500 <= len(prose.split()) <= 700
    assert re.search(r"!\[.+?\]\(\S+\.svg\)", text, re.DOTALL)


def test_tables_are_those_of_the_committed_results():
    tables = run_path(str(ROOT / "docs" / "tables.py"))
    stale = [str(page) for page, made in tables["contents"]().items() if made != page.read_text()]
    assert stale == [], "make tables"
    used = {name for page in PAGES for name in re.findall(r"<!-- table: ([\w-]+) -->", page.read_text())}
    assert used == set(tables["TABLES"])


def test_figures_have_their_functions():
    source = ast.parse((ROOT / "docs" / "figures.py").read_text())
    functions = {node.name for node in source.body if isinstance(node, ast.FunctionDef)}
    figures = {path.stem for path in (ROOT / "docs" / "figures").glob("*.svg")}
    text = "".join(page.read_text() for page in PAGES)
    assert figures <= functions
    assert all(f"figures/{name}.svg" in text for name in figures)


def test_pages_name_everything_that_is_registered():
    which, zoo, data = ((ROOT / "docs" / f"{name}.md").read_text() for name in ("which", "zoo", "data"))
    assert [name for name in list_regularizers() if f"`{name}`" not in which] == []
    named = set(re.findall(r"`([\w-]+)`", zoo)) | {
        "resnet20",
        "resnet32",
        "resnet44",
        "resnet56",
    }  # resnet8 to resnet110
    assert [name for name in list_models() if name not in named] == []
    plain = {re.sub(r"-(random|split)0|-full|-undirected|-objects|-hardest", "", name) for name in list_data()}
    assert [name for name in plain if f"`{name}`" not in data] == []


@pytest.mark.parametrize("package", ["regularizers", "zoo", "datasets", "train"])
def test_the_reference_has_every_public_name(package):
    text = "".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    public = importlib.import_module(f"comhe.{package}").__all__
    elsewhere = {"DataError": "comhe.errors"}
    missing = [name for name in public if not re.search(rf"comhe\.{package}\.{name}\b", text) and name not in elsewhere]
    assert missing == []


@pytest.fixture(scope="module")
def workplace(folder, tmp_path_factory):
    """A folder with photos for all pages; jobs run in this process, the network is cut off, registries are restored."""

    def in_turn(work, jobs, processes, seconds, ended, *_):
        for job in jobs:
            work(job)
            ended(job, None)

    def offline(*args, **options):
        raise OSError("no network in tests")

    place = tmp_path_factory.mktemp("docs")
    list_models(), list_data(), list_regularizers()  # which registers all there are
    registries = [comhe.zoo.registry.entries, comhe.regularizers.registry._REGISTRY]
    registries += comhe.datasets.registry._REGISTRY.values()
    registries += [find_domain(domain).recipes for domain in domains()]
    kept = [dict(registry) for registry in registries]
    # The paper's tables are of data that have to be downloaded: here the row of Cora stands for the built-in graph.
    table = PUBLISHED["gcn"] | {"cells": {"gcn.citations": PUBLISHED["gcn"]["cells"]["gcn.cora"]}}
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(place):
        patch.setenv("COMHE_DATA", str(place / "data"))
        patch.setenv("MPLBACKEND", "agg")
        patch.syspath_prepend(str(place))
        patch.setattr("urllib.request.urlopen", offline)
        patch.setattr(launch, "run_all", in_turn)
        patch.setitem(PUBLISHED, "gcn", table)
        Path("stripes").symlink_to(folder)
        Path("my-photos").mkdir()
        pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3))
        Image.fromarray(pixels.astype(np.uint8)).save("photo.jpg")
        yield place
    for registry, entries in zip(registries, kept, strict=True):
        sys.modules.pop("my_module", None)
        registry.clear()
        registry.update(entries)


DONE: dict[str, str] = {}  # what the commands printed that have run


def execute(command: str) -> None:
    command = INSTEAD.get(command, command)
    if command.startswith(SETUP) or PARSED.search(command) or command in DONE:
        return
    program, *words = shlex.split(command)
    assert program == "comhe", f"{command} is neither declared here nor a command of this package"
    words = [found for word in words for found in (sorted(glob.glob(word)) if "*" in word else [word])]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = cli.main(words)
    assert status == 0, f"{command}: {err.getvalue()}"
    DONE[command] = out.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_run(page, workplace):
    names = {"__name__": "__main__"}
    checker, options = doctest.OutputChecker(), doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    skipped = []
    for block in BLOCKS[page]:
        if missing := [package for package in block.needs if importlib.util.find_spec(package) is None]:
            ast.parse(block.text)
            skipped += missing
        elif block.text.startswith(MODULE):
            Path("my_module.py").write_text(block.text)
        elif block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(block.text, page.name, "exec"), names)
            if block.expected is not None:
                found = out.getvalue()
                assert checker.check_output(block.expected, found, options), f"{block.text}\nprints\n{found}"
        elif block.language == "sh":
            for command in commands(block):
                execute(command)
    if skipped:
        pytest.skip(f"the rest of the page has run; not installed: {', '.join(sorted(set(skipped)))}")


def test_commands_did_what_the_pages_say(workplace):
    if not DONE:
        pytest.skip("no page has run before this test")
    shown = "\n".join(DONE.values())
    assert "page.html: " in shown
    assert "classes.csv: the classes of 1 input" in shown
    assert "accuracy 81.50 %" in shown  # of the pretrained network
    assert "as its card says" in shown
    assert (workplace / "my-weights" / "gcn.citations-rp-comhe.safetensors").exists()
    assert "Left out" not in (workplace / "page.html").read_text()
    assert Path("runs/my-recipe/my_cnn.my-stripes-my-penalty+weight=0.1/seed0/result.json").exists()


@pytest.mark.parametrize("command", [c for c in (*COMMANDS, *INLINE) if not c.startswith(SETUP) and "my_" not in c])
def test_commands_as_written_are_understood(command, workplace):
    """The parser takes them, and every name in them exists."""
    argv = shlex.split(command)
    if "comhe.train.compare.search" in argv:
        search.tyro.cli(search.Search, args=argv[3:])
        return
    if argv[0] in ("torchrun", "srun"):
        module = next(word for word in argv if word.startswith("comhe.train."))
        argv = ["comhe", "train", module.rpartition(".")[2], *argv[argv.index(module) + 1 :]]
    argv = argv[1:]
    if len(argv) == 1 or re.search(r"[A-Z]{1,}\b|PATH", command) or argv[0].startswith("-"):  # only named
        assert argv[0] in ("train", "compare", *(known.__name__.lower() for known in cli.COMMANDS))
        return
    if "--help" in argv:
        with pytest.raises(SystemExit, match="0"):
            cli.parse(argv)
        return
    match parsed := cli.parse(argv):
        case cli.Train():
            recipe = parsed.named_recipe()
            if "--device" not in argv:
                check([recipe], "cpu", 1)
        case cli.Compare():
            check(plan(parsed.models, parsed.data, parsed.regularizers, [0], parsed.recipe), "cpu", 1)
        case cli.Reproduce(results=()):
            check(recipes(parsed.table, [0], parsed.recipe), "cpu", 1)
        case cli.Data():
            assert parsed.name in list_data()
        case cli.Evaluate() | cli.Predict():
            assert parsed.source in list_weights() or parsed.source.startswith("runs/")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_has_its_outputs(path, workplace):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert path.stat().st_size < 1_000_000
    assert any(cell["outputs"] for cell in cells)
    pytest.importorskip("matplotlib")
    names: dict[str, object] = {"__name__": "__main__"}
    for cell in cells:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile("".join(cell["source"]), path.name, "exec"), names)

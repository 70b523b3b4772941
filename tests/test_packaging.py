"""What is installed: files, dependencies, the description, and what is told where an extra is missing."""

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from .forks import python

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, SETUPTOOLS = PYPROJECT["project"], PYPROJECT["tool"]["setuptools"]
EXTRAS = PROJECT["optional-dependencies"]
FOLDERS = {package: ROOT / folder for package, folder in SETUPTOOLS["package-dir"].items()}
OLD_NAMES = {"pytorch_lightning": "lightning"}  # imported where the package's present name is not there
NAMES = {"PIL": "pillow", "torch_geometric": "torch-geometric"} | OLD_NAMES


def normal(name):
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", name)[0]).lower()


def brought(extra):
    """The distributions that an extra brings, those of other extras of ours included."""
    found = set()
    for requirement in EXTRAS[extra]:
        if inner := re.match(r"comhe\[(.*)\]", requirement):
            found |= set().union(*(brought(each) for each in inner[1].split(",")))
        else:
            found.add(normal(requirement))
    return found


def package_of(path):
    """The package whose folder contains a file."""
    name, folder = max(((n, f) for n, f in FOLDERS.items() if path.is_relative_to(f)), key=lambda pair: len(pair[0]))
    return ".".join((name, *path.parent.relative_to(folder).parts))


def sources(suffix=None):
    for folder in FOLDERS.values():
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and (path.suffix == ".py") == (suffix == ".py"):
                yield path


def test_every_folder_of_code_is_a_package_that_is_installed():
    folders = {package_of(path) for path in sources(".py")} | {"comhe.zoo.pretrained"}
    assert sorted(SETUPTOOLS["packages"]) == sorted(folders)


def test_every_file_beside_the_code_is_installed():
    for path in sources():
        patterns = SETUPTOOLS["package-data"].get(package_of(path), ())
        assert any(path.match(pattern) for pattern in patterns), f"{path} is in no entry of package-data"
    assert "py.typed" in SETUPTOOLS["package-data"]["comhe"]


def test_torch_is_the_only_dependency_and_every_other_import_is_in_an_extra():
    assert [normal(each) for each in PROJECT["dependencies"]] == ["torch"]
    known = set().union(*(brought(extra) for extra in EXTRAS if extra not in ("docs", "test")))
    assert known == brought("all")
    stdlib, missing = {*sys.stdlib_module_names, "comhe", "torch", "triton"}, []
    for path in sources(".py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            tops = {name.partition(".")[0] for name in names} - stdlib
            missing += [f"{path}: {top}" for top in tops if normal(NAMES.get(top, top)) not in known]
    assert missing == []


def test_distributions_are_called_as_the_extras_say():
    installed = packages_distributions()
    for module, name in NAMES.items():
        if module in installed and module not in OLD_NAMES:
            assert normal(name) in map(normal, installed[module])


# One process; each case in a fork of it, where one package cannot be imported.
BLOCKED = """
import json, os, sys
import torch
from comhe.errors import MissingPackageError
for module, code in json.loads(sys.argv[1]):
    sys.stdout.flush()
    if os.fork():
        os.wait()
        continue
    sys.modules[module] = None
    try:
        exec(code)
        print("nothing was missing")
    except MissingPackageError as error:
        print(error)
    except BaseException as error:
        print(type(error), error)
    sys.stdout.flush()
    os._exit(0)
"""
MISSING = {
    "zoo": {
        "import comhe.zoo": ("numpy", "PIL", "plyfile", "safetensors"),
        "import comhe.datasets": ("h5py", "numpy", "PIL", "safetensors", "scipy"),
        "from comhe.zoo import create_model; create_model('gcn', weights='cora-none')": ("torch_geometric",),
        "from comhe.zoo import get_weights; get_weights('gcn.cora-none').build()": ("torch_geometric",),
        "from comhe.zoo import create_model; create_model('resnet18')": ("torchvision",),
        "from comhe.datasets import ResizedCrop; ResizedCrop().transform(8)": ("torchvision",),
    },
    "train": {"import comhe.train": ("filelock", "jinja2", "numpy", "rich", "safetensors", "scipy", "tyro")},
    "cluster": {"from comhe.train import Cluster; Cluster('local')._executor('jobs')": ("submitit",)},
    "export": {"from comhe.zoo.export import export_onnx; export_onnx(None, 'a.onnx')": ("onnxscript",)},
    "lightning": {"import comhe.regularizers.integrations.lightning": ("lightning",)},
    "transformers": {"import comhe.regularizers.integrations.transformers": ("transformers",)},
    "ogb": {"from comhe.datasets import load_graph; load_graph('ogbn-arxiv')": ("ogb",)},
    "report": {"from comhe.train.report.figures import Drawing; Drawing('', '', '')": ("matplotlib",)},
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_missing_package_is_an_error_that_names_the_extra(tmp_path):
    cases = [(extra, m, code) for extra, codes in MISSING.items() for code, ms in codes.items() for m in ms]
    assert brought("zoo") <= {normal(NAMES.get(m, m)) for extra, m, _ in cases if extra == "zoo"}
    assert brought("train") - brought("zoo") <= {m for extra, m, _ in cases if extra == "train"}
    blocks = "sys.modules['pytorch_lightning'] = None; "
    argument = json.dumps([(m, (blocks if extra == "lightning" else "") + code) for extra, m, code in cases])
    done = python("-c", BLOCKED, argument, cwd=tmp_path, env=os.environ | {"COMHE_DATA": "."})
    lines = done.stdout.splitlines()
    assert len(lines) == len(cases), done.stderr
    for (extra, module, code), line in zip(cases, lines, strict=True):
        assert line.endswith(f"pip install 'comhe[{extra}]'"), f"{code}, without {module}: {line}"
        assert "needs " + module in line or extra == "report"


def test_the_command_says_in_one_line_what_it_needs():
    code = "import sys; sys.modules['tyro'] = None; import comhe.__main__ as m; sys.exit(m.main(['list', 'models']))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "comhe: comhe.train needs tyro, which is not installed: pip install 'comhe[train]'\n"
    assert PROJECT["scripts"] == {"comhe": "comhe.__main__:main"}


@pytest.fixture(scope="module")
def absolute():
    """The function of setup.py that makes links absolute."""
    pytest.importorskip("setuptools")
    spec = importlib.util.spec_from_file_location("comhe_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.absolute


LINKS = """[license](LICENSE), [docs](docs/a.md#part "title"), [up](#install), [out](https://a.example/b), <i>`w[i](x)`
![a b](docs/a.svg) [![badge](img/b.svg)](docs/b.md) <img alt="c" src="docs/c.svg" width="9"> ![far](https://a.example/b)
```python
layers[0](x)
```
"""


def test_relative_links_lead_to_the_repository(absolute):
    base, raw = "https://git.example/comhe/blob/v1/", "https://git.example/comhe/raw/v1/"
    found = absolute(LINKS, "https://git.example/comhe/", "v1")
    assert found.splitlines()[:2] == [
        f"[license]({base}LICENSE), [docs]({base}docs/a.md#part), [up](#install), [out](https://a.example/b), "
        "<i>`w[i](x)`",
        f'![a b]({raw}docs/a.svg) [![badge]({raw}img/b.svg)]({base}docs/b.md) <img alt="c" src="{raw}docs/c.svg" '
        'width="9"> ![far](https://a.example/b)',
    ]
    assert found.splitlines()[2:] == LINKS.splitlines()[2:]


def test_without_an_address_links_are_their_text(absolute):
    found = absolute(LINKS, None, "v1")
    assert found.splitlines()[:2] == [
        "license, docs, [up](#install), [out](https://a.example/b), <i>`w[i](x)`",
        "a b badge  ![far](https://a.example/b)",
    ]
    readme = absolute((ROOT / "README.md").read_text(), PROJECT["urls"].get("Source"), "v1")
    prose = re.sub(r"^```.*?^```$|`[^`\n]+`", "", readme, flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)]+)\)|\bsrc(?:set)?=\"([^\"]+)", prose)
    assert [t for pair in targets for t in pair if t and not re.match("https?:|#", t)] == []


def test_the_version_is_the_same_everywhere():
    version = PROJECT["version"]
    assert re.search(rf"^version: {re.escape(version)}$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


@pytest.mark.long
def test_a_run_of_an_installed_wheel_records_the_version(tmp_path):
    """Built, installed beside the other packages and used in the checkout of another project."""
    pytest.importorskip("setuptools")
    tree, site, work = (tmp_path / name for name in ("tree", "work/site", "work"))
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "tests", "results"))
    site.mkdir(parents=True)
    code = f"from setuptools import build_meta; print(build_meta.build_wheel({str(tmp_path)!r}))"
    built = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, check=True)
    assert not re.search(r"^\W*(?!.*byte-compiling)\w*warn", built.stderr, re.IGNORECASE | re.MULTILINE), built.stderr
    with zipfile.ZipFile(tmp_path / built.stdout.splitlines()[-1]) as wheel:
        wheel.extractall(site)
        names = wheel.namelist()
    assert {name.split("/")[0] for name in names} == {"comhe", f"comhe-{PROJECT['version']}.dist-info"}
    expected = {Path(*package_of(p).split("."), p.name).as_posix() for s in (None, ".py") for p in sources(s)}
    assert {name for name in names if name.startswith("comhe/")} == expected
    for words in (["init", "-q"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a", "--allow-empty"]):
        subprocess.run(["git", *words], cwd=work, check=True)
    train = ["train", "graphs", "--model", "gcn", "--data", "citations", "--regularizer", "mhe", "--epochs", "2"]
    environment = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "comhe", *train]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (found,) = work.glob("runs/**/environment.json")
    noted = json.loads(found.read_text())
    assert (noted["comhe"], noted["commit"]) == (PROJECT["version"], f"version {PROJECT['version']}")

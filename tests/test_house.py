"""The house as a whole: who may import whom, where tests stand, and that no other package's name is taken."""

import ast
import importlib
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from .forks import python

ROOT = Path(__file__).parent.parent
FOLDERS = ("regularizers", "zoo", "datasets", "train")
ALLOWED = {
    "regularizers": {"autograd", "errors"},
    "zoo": {"autograd", "errors", "inputs"},
    "datasets": {"errors", "inputs", "progress"},
    "train": {"errors", "inputs", "progress", "regularizers", "zoo", "datasets", "__version__"},
    "inputs": {"errors"},  # the reading of one image or one cloud, which training and prediction share
}
MOVED = (
    "comhe.regularizers.lightning",
    "comhe.regularizers.transformers",
)  # old names, tested with what they stand for
MODULES = {
    ".".join(("comhe", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
}
MODULES |= {f"comhe.inputs.{path.stem}": path for path in (ROOT / "comhe" / "inputs").glob("[!_]*.py")}


@cache
def imports(name: str) -> list[tuple[str, int]]:
    """The modules that a module imports, anywhere in it, and the line."""
    path, found = MODULES[name], []
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            source = ".".join(filter(None, (base, node.module)))
            for full in (f"{source}.{alias.name}" for alias in node.names):
                found.append((full if full in MODULES or source == "comhe" else source, node.lineno))
    return found


@cache
def graph() -> dict[str, set[str]]:
    return {name: {target for target, _ in imports(name) if target in MODULES} for name in MODULES}


@pytest.mark.parametrize("folder", ALLOWED)
def test_each_folder_imports_only_what_lies_below_it(folder):
    wrong = [
        f"{name}:{line} imports {target}"
        for name in MODULES
        if name.split(".")[1] == folder
        for target, line in imports(name)
        if target.split(".")[0] == "comhe" and target.split(".")[1] not in {folder, *ALLOWED[folder]}
    ]
    assert not wrong, "\n".join(wrong)


def test_regularizers_need_torch_and_nothing_else():
    optional = {"lightning", "pytorch_lightning", "transformers", "triton"}
    found = {
        target.split(".")[0] for name in MODULES if name.startswith("comhe.regularizers") for target, _ in imports(name)
    }
    assert found - set(sys.stdlib_module_names) - optional == {"comhe", "torch"}


def test_no_module_imports_itself_on_a_detour():
    """Strongly connected components of the import graph, imports within functions included (Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    circles: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in graph()[name]:
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            circle = [stack.pop()]
            while circle[-1] != name:
                circle.append(stack.pop())
            if len(circle) > 1 or name in graph()[name]:
                circles.append(sorted(circle))

    sys.setrecursionlimit(max(sys.getrecursionlimit(), 10 * len(MODULES)))
    for name in graph():
        if name not in index:
            visit(name)
    assert circles == []


def test_no_module_of_ours_is_imported_by_a_string():
    pattern = re.compile(r"""(import_module|__import__)\(\s*f?["'](\.|comhe)""")
    assert [name for name, path in MODULES.items() if pattern.search(path.read_text())] == []


@pytest.mark.parametrize("name", [n for n, p in MODULES.items() if p.name != "__init__.py" and n not in MOVED])
def test_a_module_has_its_tests_at_the_mirrored_path(name):
    *folders, module = name.split(".")[1:]
    place = ROOT.joinpath("tests", *folders)
    names = (module, folders[-1]) if folders[-1] == "kernels" else (module,)  # kernels share their tests
    found = [path for known in names for path in (*place.glob(f"test_{known}.py"), *place.glob(f"test_{known}_*.py"))]
    assert found, f"{place.relative_to(ROOT)}/test_{module}.py is missing"


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_public_function_shows_an_example_that_runs(folder):
    package = importlib.import_module(f"comhe.{folder}")
    functions = [getattr(package, name) for name in package.__all__]
    missing = [
        f.__name__ for f in functions if callable(f) and not isinstance(f, type) and ">>>" not in (f.__doc__ or "")
    ]
    assert missing == []


def test_the_package_has_its_version_and_the_four_folders():
    import comhe

    assert re.fullmatch(r"\d+\.\d+\.\d+.*", comhe.__version__)
    assert f'version = "{comhe.__version__}"' in (ROOT / "pyproject.toml").read_text()
    for folder in FOLDERS:
        assert getattr(comhe, folder).__name__ == f"comhe.{folder}"
    found = {module.name for module in pkgutil.iter_modules(comhe.__path__)}
    assert "errors" in found
    with pytest.raises(AttributeError, match="nothing"):
        comhe.nothing  # noqa: B018


def test_packages_of_other_people_keep_their_names(tmp_path):
    """``datasets`` is also Hugging Face's: no pytest and no command of the Makefile may find ours under that name."""
    assert str(ROOT) not in map(os.path.abspath, filter(None, sys.path))
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text("OWNER = 'somebody else'\n")
    code = """if True:
        import os, torch  # what takes seconds, and is imported either way
        for first in ("import comhe.train", ""):
            if os.fork():
                os.wait()
                continue
            exec(first)
            import datasets, comhe.datasets
            print(datasets.OWNER, comhe.datasets.load_graph.__name__, flush=True)
            os._exit(0)
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "somebody else load_graph\n" * 2, done.stderr


def test_a_clone_named_like_the_package_does_not_hide_the_installed_one(tmp_path):
    (tmp_path / "work" / "comhe" / "zoo").mkdir(parents=True)
    shutil.copytree(ROOT / "comhe", tmp_path / "site" / "comhe", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-c", "import comhe; print(comhe.__file__, comhe.__version__)"],
        cwd=tmp_path / "work",
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith(str(tmp_path / "site")), done.stderr


WITHOUT_POSIX = """
import importlib, os, signal, sys
import filelock, h5py, matplotlib.pyplot, scipy.sparse, torch, torch_geometric, torchvision, tyro  # as Windows has them
for name in ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"):
    sys.modules[name] = None
for name in ("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGUSR1", "SIG_BLOCK", "pthread_sigmask", "setitimer"):
    delattr(signal, name)
for name in ("fork", "getuid", "killpg", "sched_getaffinity", "setsid", "uname"):
    delattr(os, name)
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_every_module_imports_without_what_windows_lacks():
    names = [name for name in MODULES if not re.search("__main__|integrations|lightning|transformers", name)]
    done = python("-c", WITHOUT_POSIX, *names)
    assert done.returncode == 0, done.stderr


def test_no_command_of_the_makefile_puts_the_root_on_the_path():
    recipes = [line.strip() for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("\t")]
    python = [line for line in recipes if re.search(r"\bpython3?\b", line) and "-m pip" not in line]
    assert python
    assert all(" -P " in line for line in python), python


def test_the_command_is_also_a_module():
    done = subprocess.run([sys.executable, "-P", "-m", "comhe", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "compare" in done.stdout + done.stderr

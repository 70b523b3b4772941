"""Modules of users that register penalties, models, data sets and recipes."""

import hashlib
import importlib
import os
import sys
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from comhe.errors import UsageError

GROUP = "comhe.plugins"
sources: dict[str, str] = {}  # the modules that were imported, and a digest of their source as it was then
providers: list[Callable[[], None]] = []  # called once, before the first look-up of a domain; they register domains


def load_plugins(modules: Iterable[str] = ()) -> None:
    """Import installed plugins, entry points ``comhe.plugins`` (modules or functions), and the modules that are named.

    Example:
        >>> load_plugins(["json.tool"])
    """
    _load_installed()
    for name in modules:
        _import(name)


@cache
def _load_installed() -> None:
    for entry in entry_points(group=GROUP):
        try:
            found = entry.load()
        except ImportError as error:
            raise UsageError(f"the plugin {entry.name} ({entry.value}) cannot be imported: {error}") from error
        _note(entry.module)
        if callable(found):
            found()


def _import(name: str) -> None:
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"{name!r} is not the name of a module; write it as in an import statement: package.module")
    folder = os.getcwd()
    is_added = folder not in sys.path
    if is_added:
        sys.path.append(folder)  # last, so that no installed package is hidden by a folder of its name
    try:
        importlib.import_module(name)
        _note(name)
    except ImportError as error:
        reason = f"{error}; is it in this folder, or installed?"
        raise UsageError(f"the module {name!r} cannot be imported: {reason}") from error
    finally:
        if is_added:
            sys.path.remove(folder)


def _note(name: str) -> None:
    """Keep the digest of a module's file, or of all that its package has."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is not None and name not in sources:
        path = Path(file)
        files = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
        sources[name] = hashlib.sha256(b"\0".join(each.read_bytes() for each in files)).hexdigest()[:16]

"""Regularize neural networks by hyperspherical energy.

``comhe.regularizers``, ``comhe.zoo``, ``comhe.datasets`` and ``comhe.train`` are imported when they are first used.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from .errors import ComheError, DataError, UsageError, WeightsError

try:
    __version__ = version("comhe")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "unknown"

__all__ = [
    "ComheError",
    "DataError",
    "UsageError",
    "WeightsError",
    "__version__",
    "datasets",
    "regularizers",
    "train",
    "zoo",
]


def __getattr__(name: str) -> ModuleType:
    if name in ("datasets", "regularizers", "train", "zoo"):
        return import_module(f"comhe.{name}")
    raise AttributeError(f"module 'comhe' has no attribute {name!r}")

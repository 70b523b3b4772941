"""``graph:PATH``: a graph of one's own, a ``.pt`` or ``.npz`` file or a folder of CSV files; and OGB's."""

import re
from pathlib import Path
from typing import Any

from comhe.datasets.io.files import MissingDataError
from comhe.datasets.registry import register_dataset
from comhe.errors import DataError, seen_from

from .graph import Graph
from .npz import read_npz
from .pyg import read_pt
from .tables import read_tables

SUFFIXES = {".pt": read_pt, ".pth": read_pt, ".npz": read_npz}
OWN = re.compile(r"(?P<kind>graph-undirected|graph|folder)(-(random|split)\d+)?:(?P<path>.+)", re.DOTALL)
LICENSE = "its owner's"


@register_dataset("graph", "graphs", license=LICENSE, about="a graph of your own: a .pt or .npz file, or CSV files")
def load_own(path: Path, seed: int | None = None, split: int | None = None) -> Graph:
    """Load a graph of one's own, with edges as they are given."""
    return _load("graph", path, seed, split, undirected=False)


@register_dataset(
    "graph-undirected", "graphs", license=LICENSE, about="a graph of your own, with both directions of every edge"
)
def load_undirected(path: Path, seed: int | None = None, split: int | None = None) -> Graph:
    """Load a graph of one's own, with both directions of every edge, and without duplicates and self-loops."""
    return _load("graph-undirected", path, seed, split, undirected=True)


@register_dataset("folder", "graphs", license=LICENSE, about="a graph of your own: a folder of CSV files")
def load_folder(path: Path, seed: int | None = None, split: int | None = None) -> Graph:
    """Load a folder of CSV files, with edges as they are given."""
    return _load("folder", path, seed, split, undirected=False)


def load_unlabeled(name: str, undirected: bool = False) -> Graph | None:
    """Load a graph of one's own to predict its nodes, which needs features and edges only.

    Args:
        name: the path of a file or a folder, with or without the ``graph:`` before it that it has in training.
        undirected: add the other direction of every edge.

    Returns:
        the graph; None for the name of any other data set.

    Example:
        >>> import numpy as np
        >>> np.savez("own.npz", x=np.eye(3), edge_index=[[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> load_unlabeled("graph:own.npz")
        Graph('graph:own.npz', nodes=3, edges=4, features=3, classes=0, train=0, val=0, test=0)
    """
    match = OWN.fullmatch(name)
    path = Path(match["path"] if match else name).expanduser()
    if match is None and not path.exists() and path.suffix.lower() not in SUFFIXES:
        return None
    if not path.exists():
        raise MissingDataError(f"{path}: no such file or folder{seen_from(path)}")
    undirected = undirected or (match is not None and match["kind"] == "graph-undirected")
    fields = read_fields(path, labeled=False)
    return Graph.from_fields(f"graph:{path}", fields, path.name, undirected=undirected, labeled=False)


def _load(kind: str, path: Path, seed: int | None, split: int | None, undirected: bool) -> Graph:
    name = f"{kind}:{path}"
    if not path.exists():
        raise MissingDataError(f"{name}: no such file or folder{seen_from(path)}")
    return Graph.from_fields(name, read_fields(path), path.name, seed, undirected, split)


def read_fields(path: Path, labeled: bool = True) -> dict[str, Any]:
    """Read the arrays of a graph from a file or a folder, under the names that they have there."""
    if path.is_dir():
        return read_tables(path, labeled)
    if (reader := SUFFIXES.get(path.suffix.lower())) is None:
        hint = f"; name its folder: graph:{path.parent}" if path.suffix.lower() in (".csv", ".tsv", ".txt") else ""
        raise DataError(f"{path}: a graph is a {', '.join(SUFFIXES)} file, or a folder of CSV files{hint}")
    return reader(path)

"""All data sets together: their names, loading by name, and the census of any of them."""

from __future__ import annotations

import difflib
from pathlib import Path

from .graphs import load as graphs
from .graphs.load import Graph, list_graphs, load_graph
from .images.load import list_images, load_images
from .images.sets import ImageSet
from .points.clouds import Clouds
from .points.load import list_points, load_points

DataSet = Graph | ImageSet | Clouds
_DOMAINS = {
    "images": (list_images, load_images),
    "points": (list_points, load_points),
    "graphs": (list_graphs, load_graph),
}


def list_data() -> list[str]:
    """The names of all data sets, by domain."""
    return list(dict.fromkeys(name for names, _ in _DOMAINS.values() for name in names()))


def load_data(name: str, root: str | Path | None = None, domain: str | None = None) -> DataSet:
    """Any data set by name, as its domain loads it. `folder:PATH` holds images unless `domain` is `points`.

    Raises:
        ValueError: unknown name; names the nearest ones.
        MissingDataError, DataError: files are missing or damaged (both are ValueErrors).
    """
    for key, (names, load) in _DOMAINS.items():
        if domain == key or (domain is None and _base(name) in map(_base, names())):
            return load(name, root)
    known = list_data()
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    raise ValueError(f"unknown data set {name!r}; {'nearest' if near else 'known'}: {', '.join(near or known)}")


def _base(name: str) -> str:
    """A set's name without its split and its path."""
    return name.split(":")[0].split("-")[0]


def describe(data: DataSet) -> dict[str, object]:
    """What a data set has: name, sizes of its parts, and the figures by which one knows it."""
    return graphs.describe(data) if isinstance(data, Graph) else data.describe()

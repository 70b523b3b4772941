"""The census of any data set."""

from __future__ import annotations

from comhe.datasets import graphs
from comhe.datasets.graphs import Graph
from comhe.datasets.image_sets import ImageSet


def describe(data: Graph | ImageSet) -> dict[str, object]:
    """What a data set has: name, sizes of its parts, and the figures by which one knows it."""
    return graphs.describe(data) if isinstance(data, Graph) else data.describe()

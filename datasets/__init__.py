"""Data sets by name: files on disk, or code, to tensors."""

from comhe.datasets.fetch import AlteredDataWarning, DataError, MissingDataError, data_root
from comhe.datasets.graphs import Graph, describe, list_graphs, load_graph

__all__ = [
    "AlteredDataWarning",
    "DataError",
    "Graph",
    "MissingDataError",
    "data_root",
    "describe",
    "list_graphs",
    "load_graph",
]

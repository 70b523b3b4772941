"""Data sets by name: files on disk, or code, to tensors."""

from comhe.datasets.augment import CENTERED, Augmentation, ResizedCrop
from comhe.datasets.census import describe
from comhe.datasets.fetch import AlteredDataWarning, DataError, MissingDataError, data_root
from comhe.datasets.graphs import Graph, list_graphs, load_graph
from comhe.datasets.image_sets import ImageFiles, Images
from comhe.datasets.images import list_images, load_images

__all__ = [
    "CENTERED",
    "AlteredDataWarning",
    "Augmentation",
    "DataError",
    "Graph",
    "ImageFiles",
    "Images",
    "MissingDataError",
    "ResizedCrop",
    "data_root",
    "describe",
    "list_graphs",
    "list_images",
    "load_graph",
    "load_images",
]

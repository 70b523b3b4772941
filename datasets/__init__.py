"""Data sets by name: files on disk, or code, to tensors."""

from comhe.datasets.augment import CENTERED, Augmentation, ResizedCrop
from comhe.datasets.census import describe, list_data, load_data
from comhe.datasets.clouds import Clouds
from comhe.datasets.fetch import AlteredDataWarning, DataError, MissingDataError, data_root
from comhe.datasets.graphs import Graph, list_graphs, load_graph
from comhe.datasets.image_sets import ImageFiles, Images
from comhe.datasets.images import list_images, load_images
from comhe.datasets.licences import licence
from comhe.datasets.point_augmentation import AUGMENTATIONS, PointAugmentation
from comhe.datasets.points import list_points, load_points

__all__ = [
    "AUGMENTATIONS",
    "CENTERED",
    "AlteredDataWarning",
    "Augmentation",
    "Clouds",
    "DataError",
    "Graph",
    "ImageFiles",
    "Images",
    "MissingDataError",
    "PointAugmentation",
    "ResizedCrop",
    "data_root",
    "describe",
    "licence",
    "list_data",
    "list_graphs",
    "list_images",
    "list_points",
    "load_data",
    "load_graph",
    "load_images",
    "load_points",
]

"""Data sets by name: files on disk, or code, to tensors."""

from .graphs.load import Graph, list_graphs, load_graph
from .images.augment import CENTERED, Augmentation, ResizedCrop
from .images.load import list_images, load_images
from .images.sets import ImageFiles, Images
from .io.fetch import AlteredDataWarning, DataError, MissingDataError, data_root
from .licenses import licence
from .points.augment import AUGMENTATIONS, PointAugmentation
from .points.clouds import Clouds
from .points.load import list_points, load_points
from .registry import describe, list_data, load_data

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

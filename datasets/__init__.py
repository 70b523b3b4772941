"""Data sets by name, as tensors: images, point clouds and graphs, from files or generated."""

# ruff: noqa: F401 - importing the modules of the built-in sets registers these

from comhe.errors import needs

with needs("zoo", __name__, "scipy"):
    from .graphs import citations, ogb, planetoid
    from .graphs import files as graph_files
    from .graphs.graph import Graph
    from .images import cifar, folder, glyphs
    from .images.augment import CENTERED, Augmentation, Normalization, ResizedCrop
    from .images.sets import ImageFiles, Images
    from .io.files import AlteredDataWarning, DataError, MissingDataError, data_root
    from .points import folder as shapes
    from .points import modelnet, solids
    from .points.augment import AUGMENTATIONS, PointAugmentation
    from .points.clouds import Clouds
    from .registry import (
        about_data,
        check_dataset,
        dataset_domains,
        describe,
        license_of,
        list_data,
        load_data,
        load_graph,
        load_images,
        load_points,
        register_dataset,
    )
    from .sampling import Loader, Share, mixed_seed

__all__ = [
    "AUGMENTATIONS", "CENTERED", "AlteredDataWarning", "Augmentation", "Clouds", "DataError", "Graph", "ImageFiles",
    "Images", "Loader", "MissingDataError", "PointAugmentation", "ResizedCrop", "Share", "about_data", "check_dataset",
    "data_root",
    "dataset_domains", "describe", "license_of", "list_data", "load_data",
    "load_graph", "load_images", "load_points", "mixed_seed", "register_dataset",
]  # fmt: skip

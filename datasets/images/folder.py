"""``folder:PATH``: a tree of image files, in memory if its images are small and of one size; and ImageNet.

Source: Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", 2015, image-net.org.
"""

from pathlib import Path

import numpy as np

from comhe.datasets.io.cache import cached
from comhe.datasets.io.files import missing
from comhe.datasets.registry import register_dataset
from comhe.errors import DataError

from .decoding import Tree, decode_tree, image_size, list_tree
from .sets import ImageFiles, Images

MAX_SIDE = 96  # pixels; larger images are read when they are needed
MAX_BYTES = 1 << 30  # of a set in memory
IMAGENET_LICENSE = "for non-commercial research and education; the images are their owners'"
CENSUS = (1000, 1_281_167, 50_000)  # classes, images to train, images to test


@register_dataset("folder", "images", license="its owner's")
def load_folder(path: Path, root: Path, seed: int | None = None, workers: int = 0) -> Images | ImageFiles:
    """Load PATH/{train,val,test}/<class>/*; a ``val`` without ``test`` is the test split."""
    name, tree = f"folder:{path}", list_tree(path)
    size = resident_size(tree)
    if size is None:
        return ImageFiles.from_tree(name, tree, "image files", seed, workers)
    decoded = cached("folder", path, tree.files, root, lambda: decode_tree(tree, size, workers))
    return Images.from_arrays(name, **decoded.splits, classes=decoded.classes, source="image files", seed=seed)


def resident_size(tree: Tree) -> tuple[int, int] | None:
    """Return width and height if the set is to be held in memory: small, and of one size in each class's first image.

    This rule does not have to look at a million files.
    """
    paths, labels = tree.splits["train"]
    firsts = paths[np.flatnonzero(np.diff(labels, prepend=-1))]
    size = image_size(tree.path(firsts[0]))
    if max(size) > MAX_SIDE or 3 * size[0] * size[1] * len(tree) > MAX_BYTES:
        return None
    return size if all(image_size(tree.path(name)) == size for name in firsts) else None


@register_dataset("imagenet", "images", license=IMAGENET_LICENSE)
def load_imagenet(root: Path, seed: int | None = None, workers: int = 0) -> ImageFiles:
    """Load ILSVRC 2012, and not a subset of it; a hundredth of each class of train is held out to validate."""
    folder = root / "imagenet"
    if not folder.is_dir():
        raise missing(f"imagenet: {folder} does not exist, with train/CLASS/ and val/CLASS/ of ILSVRC 2012 in it")
    tree = list_tree(folder, ("train", "val"))
    census = (len(tree.classes), *(len(tree.splits[split][1]) for split in ("train", "test")))
    if census != CENSUS:
        found = f"{census} classes, training images and test images"
        raise DataError(f"{folder}: not imagenet: {found}, not {CENSUS}; a subset of it is folder:{folder}")
    return ImageFiles.from_tree("imagenet", tree, "ILSVRC 2012, image-net.org", seed, workers, held_out=0.01)

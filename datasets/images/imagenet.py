"""ImageNet: ILSVRC 2012 as ROOT/imagenet/{train,val}/<class>/*; its ``val`` is the test split.

Source: Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", 2015, image-net.org.
"""

from __future__ import annotations

from pathlib import Path

from comhe.datasets.io.files import missing
from comhe.datasets.registry import register_dataset
from comhe.errors import DataError

from .sets import ImageFiles
from .tree import Tree, list_tree

LICENSE = "for non-commercial research and education; the images are their owners'"
CENSUS = (1000, 1_281_167, 50_000)  # classes, images to train, images to test


@register_dataset("imagenet", "images", license=LICENSE)
def load_imagenet(root: Path, seed: int | None = None, workers: int = 0) -> ImageFiles:
    """Load the files; a hundredth of each class of train is held out to validate."""
    tree = imagenet_tree(root / "imagenet")
    return ImageFiles.from_tree("imagenet", tree, "ILSVRC 2012, image-net.org", seed, workers, held_out=0.01)


def imagenet_tree(folder: Path) -> Tree:
    """List the files of ILSVRC 2012, and not some of them: a subset is another set, ``folder:PATH``."""
    if not folder.is_dir():
        raise missing(f"imagenet: {folder} does not exist, with train/CLASS/ and val/CLASS/ of ILSVRC 2012 in it")
    tree = list_tree(folder, ("train", "val"))
    census = (len(tree.classes), *(len(tree.splits[split][1]) for split in ("train", "test")))
    if census != CENSUS:
        found = f"{census} classes, training images and test images"
        raise DataError(f"{folder}: not imagenet: {found}, not {CENSUS}; a subset of it is folder:{folder}")
    return tree

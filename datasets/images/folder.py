"""``folder:PATH``: image files of one's own, in memory if they are small and most are of one size; and ImageNet.

Source: Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", 2015, image-net.org.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from comhe.datasets.io.cache import Splits, cached
from comhe.datasets.io.files import MissingDataError, missing
from comhe.datasets.labeled import draw_test
from comhe.datasets.registry import register_dataset
from comhe.errors import DataError
from comhe.inputs.pixels import image_size

from .cifar import SETS, binary_note, find_batches, load_batches
from .decoding import decode_tree
from .sets import SEED, ImageFiles, Images
from .tree import Tree, list_tree

MAX_SIDE = 96  # pixels; larger images are read when they are needed
MAX_BYTES = 1 << 31  # of a set in memory; Tiny ImageNet takes 1.4e9
LOOKED_AT = 500  # images whose sizes are looked at
IMAGENET_LICENSE = "for non-commercial research and education; the images are their owners'"
CENSUS = (1000, 1_281_167, 50_000)  # classes, images to train, images to test


@register_dataset(
    "folder",
    "images",
    license="its owner's",
    about="files of your own, in a folder for each class; of a graph, CSV files",
)
def load_folder(path: Path, root: Path, seed: int | None = None, workers: int = 0) -> Images | ImageFiles:
    """Load PATH/{train,val,test}/<class>/*, PATH/<class>/*, images that PATH/labels.csv lists, Tiny ImageNet, or the
    extracted archive of a CIFAR set.

    Without ``test``, ``val`` is the test split; without splits, a fifth of each class is drawn to test. If most images
    have one small size, they are held in memory, and those of other sizes are resized to cover it and cropped.
    """
    name = f"folder:{path}"
    for spec in SETS.values():
        if (batches := find_batches(path, spec)) is not None:
            return load_batches(name, batches, spec, root, seed)
    try:
        tree = list_tree(path)
    except MissingDataError as error:
        if note := binary_note(path):
            raise MissingDataError(f"{path}: has no images{note}") from error
        raise
    size, resized = resident_size(tree)
    source = "; ".join(filter(None, ["image files", tree.note]))
    if size is None:
        splits, drawn = _with_test(path, tree.splits, seed)
        return ImageFiles.from_tree(name, replace(tree, splits=splits), source + drawn, seed, workers)
    if resized:
        source += f"; images of other sizes were resized to cover {size[0]}x{size[1]} pixels, and their center cropped"
    decoded = cached("images", path, tree.files, root, lambda: decode_tree(tree, size, workers, True))
    labeled = {split: (pixels, tree.splits[split][1]) for split, (pixels, _) in decoded.splits.items()}
    splits, drawn = _with_test(path, labeled, seed)
    return Images.from_arrays(name, **splits, classes=tree.classes, source=source + drawn, seed=seed)


def _with_test(path: Path, splits: Splits, seed: int | None) -> tuple[Splits, str]:
    """Draw test images if there are none; return the splits, and words for it."""
    if "test" in splits:
        return splits, ""
    drawn, share = draw_test(str(path), splits, SEED if seed is None else seed)
    return drawn, f"; {share} of each class drawn to test" + ("" if seed is None else f", seed {seed}")


def resident_size(tree: Tree) -> tuple[tuple[int, int] | None, bool]:
    """Return width and height if the set is to be held in memory, and whether some images have to be resized to it.

    It is if most training images have one size, and that is small. Of a million files, some hundred are looked at.
    """
    paths, _ = tree.splits["train"]
    sizes = Counter(image_size(tree.path(name)) for name in paths[:: -(-len(paths) // LOOKED_AT)])
    (size, count), *others = sizes.most_common()
    small = max(size) <= MAX_SIDE and 3 * size[0] * size[1] * len(tree) <= MAX_BYTES
    return (size, bool(others)) if small and 2 * count >= sizes.total() else (None, False)


@register_dataset(
    "imagenet", "images", license=IMAGENET_LICENSE, about="ILSVRC 2012: 1,331,167 photos of any size, 1,000 classes"
)
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

"""``folder:PATH``: a tree of image files, in memory if its images are small and of one size."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from comhe.datasets.io.cache import cached
from comhe.datasets.registry import register_dataset

from .decoding import decode_tree, image_size
from .sets import ImageFiles, Images
from .tree import Tree, list_tree

MAX_SIDE = 96  # pixels; larger images are read when they are needed
MAX_BYTES = 1 << 30  # of a set in memory


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

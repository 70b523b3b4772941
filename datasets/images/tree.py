"""Trees of image files, SPLIT/CLASS/FILE.

Hidden files and Thumbs.db, which file managers leave behind, are ignored. Anything else that does not belong in such a
tree is an error that names it, because a wrong set is worse than none.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from comhe.datasets.io.cache import Splits
from comhe.datasets.io.files import MissingDataError
from comhe.errors import DataError

EXTENSIONS = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class Tree:
    """The files of a tree: for each split the paths below ``folder``, bytes [n] by class and name, and int64 labels."""

    folder: Path
    classes: tuple[str, ...]
    splits: Splits

    def __len__(self) -> int:
        return sum(len(paths) for paths, _ in self.splits.values())

    @property
    def files(self) -> list[str]:
        return [os.fsdecode(path) for paths, _ in self.splits.values() for path in paths]

    def path(self, name: bytes) -> str:
        return os.path.join(self.folder, os.fsdecode(name))


def list_tree(folder: Path, splits: tuple[str, ...] = ("train", "val", "test")) -> Tree:
    """List the tree in ``folder``; ``val`` is the test split if there is no ``test`` (ImageNet's convention).

    Classes are the folders of ``train`` in alphabetical order.
    """
    present = [split for split in splits if (folder / split).is_dir()]
    if "train" not in present or len(present) == 1:
        lacks = "train" if "train" not in present else " or ".join(splits[1:])
        raise MissingDataError(f"{folder}: has no folder {lacks}; images belong in {folder}/SPLIT/CLASS/")
    classes = tuple(_entries(folder / "train", folders=True))
    if not classes:
        raise DataError(f"{folder}/train: contains no class folder")
    found = {split: _list_split(folder, split, classes) for split in present}
    if "test" not in found:
        found["test"] = found.pop("val")
    return Tree(folder, classes, found)


def _list_split(folder: Path, split: str, classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    found = set(_entries(folder / split, folders=True))
    if unknown := sorted(found - set(classes)):
        raise DataError(f"{folder / split / unknown[0]}: this class is missing from {folder}/train")
    paths, counts = [], []
    for name in classes:
        files = _entries(folder / split / name, folders=False) if name in found else []
        if not files:
            raise DataError(f"{folder / split / name}: has no image, but every class needs some in every split")
        paths += [os.fsencode(f"{split}/{name}/{file}") for file in files]
        counts.append(len(files))
    return np.array(paths), np.repeat(np.arange(len(classes)), counts)


def _entries(folder: Path, folders: bool) -> list[str]:
    """Names in a folder, sorted: only folders, or only image files."""
    result = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "Thumbs.db":
                continue
            if folders and not entry.is_dir():
                raise DataError(f"{entry.path}: not a folder; a split has one folder for each class")
            if not folders and os.path.splitext(entry.name)[1].lower() not in EXTENSIONS:
                raise DataError(f"{entry.path}: not an image file ({' '.join(sorted(EXTENSIONS))}); remove it")
            if not folders and not entry.is_file():
                raise DataError(f"{entry.path}: not a file")
            result.append(entry.name)
    return sorted(result)

"""``folder:PATH``: meshes and clouds of any size by class, as clouds of one size; or HDF5 files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from comhe.datasets.io.cache import Decoded, cached
from comhe.datasets.io.files import MissingDataError
from comhe.datasets.registry import register_dataset
from comhe.errors import DataError

from .clouds import Clouds
from .h5 import is_h5_folder, load_h5_folder
from .shapes import SUFFIXES, read_cloud

POINTS = 2048


@register_dataset("folder", "points", license="its owner's")
def load_folder(path: Path, root: Path) -> Clouds:
    """Load HDF5 files in PointNet's layout (y is up), or meshes and clouds by class (z is up)."""
    if not path.is_dir():
        raise MissingDataError(f"folder:{path}: no such folder")
    decoded, up = (load_h5_folder(path), 1) if is_h5_folder(path) else (load_shape_folder(path, root), 2)
    split = "its own split" if "val" in decoded.splits else "its own test, 10 % of train held out"
    source = f"{path}; {split}"
    return Clouds.from_arrays(f"folder:{path}", **decoded.splits, classes=decoded.classes, up=up, source=source)


def load_shape_folder(folder: Path, root: Path) -> Decoded:
    """Load ``train``, ``test`` and perhaps ``val`` as float32 [n, 2048, 3] and int64 [n], in the order of names.

    The folder has ``train/<class>/`` and so on, or, as in ModelNet's archives, ``<class>/train/``; hidden files are
    ignored. Classes are those of train. The files are parsed once and then kept in a cache.
    """
    by_class = not (folder / "train").is_dir()
    shapes: list[tuple[str, str, str]] = []  # split, class and path
    for split in ("train", "val", "test"):
        for child in _children(folder if by_class else folder / split):
            files = _children(child / split if by_class else child)
            shapes += [(split, child.name, file.relative_to(folder).as_posix()) for file in files]
    if not {"train", "test"} <= {split for split, _, _ in shapes}:
        raise DataError(f"{folder}: has no train/<class>/* and test/<class>/*, nor <class>/train/* and <class>/test/*")
    classes = tuple(sorted({name for split, name, _ in shapes if split == "train"}))
    for split, name, file in shapes:
        if name not in classes:
            raise DataError(f"{folder / file}: class {name!r} of {split} has no shape in train")
        if not file.lower().endswith(SUFFIXES):
            raise DataError(f"{folder / file}: not one of {', '.join(SUFFIXES)}")

    def build() -> Decoded:
        points = np.stack([read_cloud(folder / file, POINTS, file) for _, _, file in shapes])
        labels = np.array([classes.index(name) for _, name, _ in shapes])
        of_split = np.array([split for split, _, _ in shapes])
        return Decoded(
            {s: (points[of_split == s], labels[of_split == s]) for s in np.unique(of_split).tolist()}, classes
        )

    return cached(f"shapes-{POINTS}", folder, [file for _, _, file in shapes], root, build)


def _children(folder: Path) -> list[Path]:
    return sorted(child for child in folder.glob("*") if not child.name.startswith("."))

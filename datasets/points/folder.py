"""``folder:PATH``: HDF5 files in PointNet's layout, or meshes and clouds of any size by class."""

import math
from pathlib import Path, PurePosixPath

import h5py
import numpy as np

from comhe.datasets.io.cache import Decoded, cached
from comhe.datasets.io.files import MissingDataError, read_lines
from comhe.datasets.registry import register_dataset
from comhe.errors import DataError

from .clouds import Clouds, check_clouds
from .shapes import SUFFIXES, read_cloud

MAX_VALUES = 1 << 28  # coordinates a file: 20 times as many as in the published files
POINTS = 2048  # of a cloud from a mesh or a cloud of any size
# A file may claim more than it stores (chunks unwritten or well compressed): so many bytes, or so many times its size.
UNSTORED, EXPANSION = 1 << 26, 100


def is_h5_folder(folder: Path) -> bool:
    """Return whether it has ``train_files.txt`` and ``shape_names.txt``, which list HDF5 files and classes."""
    return (folder / "train_files.txt").exists() and (folder / "shape_names.txt").exists()


def load_h5_folder(folder: Path) -> Decoded:
    """Load ``train`` and ``test`` as float32 [n, P, 3] and int64 [n], in the order of the lists."""
    classes = tuple(read_lines(folder / "shape_names.txt"))
    splits, sizes = {}, set()
    for split in ("train", "test"):
        # The published lists name the files relative to another folder.
        files = [folder / PurePosixPath(line).name for line in read_lines(folder / f"{split}_files.txt")]
        points, labels = zip(*(read_h5(file, len(classes)) for file in files), strict=True)
        sizes |= {array.shape[1] for array in points}
        if len(sizes) > 1:
            raise DataError(f"{folder}: its files have clouds of {' and '.join(map(str, sorted(sizes)))} points")
        splits[split] = np.concatenate(points), np.concatenate(labels)
    return Decoded(splits, classes)


def read_h5(path: Path, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Read ``data`` as float32 [n, P, 3] and ``label`` [n] or [n, 1]; sizes are checked before memory is allocated."""
    if not path.is_file():
        raise DataError(f"{path}: no such file" if not path.exists() else f"{path}: not a regular file")
    try:
        with h5py.File(path, "r") as file:
            data, label = _dataset(file, "data", path), _dataset(file, "label", path)
            if data.dtype.kind != "f" or data.ndim != 3 or data.shape[2] != 3 or 0 in data.shape:
                raise DataError(f"{path}: data is {data.dtype} {list(data.shape)}, not float [n, P, 3]")
            if label.dtype.kind not in "iu" or label.shape not in (data.shape[:1], (*data.shape[:1], 1)):
                raise DataError(f"{path}: label is {label.dtype} {list(label.shape)}, not int [{data.shape[0]}, 1]")
            if math.prod(data.shape) > MAX_VALUES:
                raise DataError(f"{path}: data {list(data.shape)} has more than {MAX_VALUES:,} values")
            for dataset in (data, label):
                # A chunk is unpacked completely, however little of it is read.
                claimed = max(dataset.size, math.prod(dataset.chunks or ())) * dataset.dtype.itemsize
                stored = min(dataset.id.get_storage_size(), path.stat().st_size)
                if claimed > max(UNSTORED, EXPANSION * stored):
                    raise DataError(f"{path}: {dataset.name} claims {claimed:,} bytes, but the file stores {stored:,}")
            points, labels = data[()].astype(np.float32, copy=False), label[()].ravel()
    except DataError:
        raise
    # What h5py raises for a damaged file depends on the version of the library under it.
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: truncated or damaged ({' '.join(str(error).split())})") from error
    check_clouds(points, path)
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        row = wrong.argmax()
        raise DataError(f"{path}: label {labels[row]} of cloud {row} (from 0) is outside 0..{classes - 1}")
    return points, labels.astype(np.int64)


def _dataset(file: h5py.File, key: str, path: Path) -> h5py.Dataset:
    # A link, a virtual data set or external storage would read files that are not named here.
    link = file.get(key, getlink=True)
    if link is None:
        raise DataError(f"{path}: has no {key!r}, but {', '.join(map(repr, file)) or 'nothing'}")
    dataset = file[key] if isinstance(link, h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise DataError(f"{path}: {key!r} is not an array stored in this file")
    return dataset


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
        split_of = np.array([split for split, _, _ in shapes])
        chosen = {split: split_of == split for split in np.unique(split_of).tolist()}
        return Decoded({split: (points[rows], labels[rows]) for split, rows in chosen.items()}, classes)

    return cached(f"shapes-{POINTS}", folder, [file for _, _, file in shapes], root, build)


def _children(folder: Path) -> list[Path]:
    return sorted(child for child in folder.glob("*") if not child.name.startswith("."))

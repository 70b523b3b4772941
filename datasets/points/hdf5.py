"""Clouds in HDF5 files: listed as in PointNet's layout, or splits and their parts by the names of files.

Source: Qi et al., "PointNet: Deep Learning on Point Sets for 3D Classification and Segmentation", CVPR 2017.
"""

import math
import re
from itertools import pairwise
from pathlib import Path, PureWindowsPath

import h5py
import numpy as np

from comhe.datasets.io.cache import Decoded, Splits
from comhe.datasets.io.files import read_lines
from comhe.datasets.io.layouts import SPLIT_NAMES, children
from comhe.datasets.labeled import SPLITS
from comhe.errors import DataError, few, warn
from comhe.inputs.scans import COLUMNS
from comhe.inputs.shapes import check_clouds
from comhe.inputs.signatures import stand_in

MAX_VALUES = 1 << 28  # coordinates a file: 20 times as many as in the published files
# A file may claim more than it stores (chunks unwritten or well compressed): so many bytes, or so many times its size.
UNSTORED, EXPANSION = 1 << 26, 100
MAX_CLASSES = 1000  # where labels alone say how many there are
HDF5 = (".h5", ".hdf5")
NAMES = {  # of arrays in HDF5 files, in lower case
    "data": (
        "data", "points", "point", "xyz", "pos", "positions", "coord", "coords", "pc", "pcs", "cloud", "clouds",
        "point_cloud", "point_clouds", "pointcloud", "pointclouds", "x",
    ),
    "label": ("label", "labels", "y", "class", "target", "targets"),
}  # fmt: skip
MEANT = {"data": "the points", "label": "the numbers of the classes"}
SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}
IN_SPLIT = re.compile(rf"({'|'.join(sorted(SPLIT_OF, key=len, reverse=True))})[_-]?(.*)\.(?:h5|hdf5)", re.IGNORECASE)
PART = re.compile(r"(|.*[_-])(\d+)")  # of what follows the split: the name of the set, and the number of a part
WHOLE = -1  # the number of a split that is one file
SCANS = (
    "bag", "bin", "box", "cabinet", "chair", "desk", "display", "door", "shelf", "table", "bed", "pillow", "sink",
    "sofa", "toilet",
)  # fmt: skip


def is_h5_folder(folder: Path) -> bool:
    """Return whether it has ``train_files.txt`` and ``shape_names.txt``, which list HDF5 files and classes."""
    return (folder / "train_files.txt").exists() and (folder / "shape_names.txt").exists()


def load_h5_folder(folder: Path) -> Decoded:
    """Load ``train``, ``test`` and perhaps ``val`` as [n, P, 3] and int64 [n], in the order of the lists."""
    classes, files = tuple(read_lines(folder / "shape_names.txt")), {}
    for split in SPLITS:
        listed = folder / f"{split}_files.txt"
        if split != "val" or listed.exists():
            # The published lists name the files relative to another folder; those of Windows have its separators.
            files[split] = [folder / PureWindowsPath(line).name for line in read_lines(listed)]
    return _named(folder, _read_parts(folder, files, len(classes)), classes)


def find_parts(folder: Path) -> dict[str, list[Path]] | None:
    """Return the HDF5 files of each split, if there are some to train and some to test, as their names say.

    ``train.h5`` or ``training_NAME.h5`` is a split in one file, ``train0.h5``, ``train1.h5`` ... are parts of one. A
    ``val`` without ``test`` is the test split, as it is for images.
    """
    found: dict[str, dict[str, list[tuple[int, Path]]]] = {}  # by name of the set and split: numbers of parts, files
    others = []
    for file in children(folder):
        if match := IN_SPLIT.fullmatch(file.name):
            part = PART.fullmatch(match[2])
            name, number = (part[1], int(part[2])) if part else (match[2], WHOLE)
            splits = found.setdefault(name.strip("_-"), {})
            splits.setdefault(SPLIT_OF[match[1].lower()], []).append((number, file))
        elif file.suffix.lower() in HDF5:
            others.append(file.name)
    for splits in found.values():
        if "test" not in splits and "val" in splits:
            splits["test"] = splits.pop("val")
    sets = [name for name, splits in found.items() if {"train", "test"} <= splits.keys()]
    if not sets:
        return None
    if len(sets) > 1:
        raise DataError(f"{folder}: has {' and '.join(map(repr, sets))} to train and to test; keep one in a folder")
    chosen = found.pop(sets[0])
    for splits in found.values():
        (_, file), *_ = next(iter(splits.values()))
        raise DataError(f"{file}: does not belong to the set of {chosen['train'][0][1].name}; keep it elsewhere")
    if others:
        warn(f"{folder}: not used: {few(others, 8)}")
    return {split: _in_order(folder, chosen[split]) for split in SPLITS if split in chosen}


def _in_order(folder: Path, parts: list[tuple[int, Path]]) -> list[Path]:
    """The parts of a split by their numbers, of which none may be missing."""
    parts = sorted(parts)
    for (number, file), (following, other) in pairwise(parts):
        if number in (WHOLE, following):
            raise DataError(f"{folder}: has both {file.name} and {other.name}; keep one of them")
        if following != number + 1:
            between = f"{file.name} and {other.name}"
            raise DataError(
                f"{folder}: has no part {number + 1} between {between}; add it, or keep one set in a folder"
            )
    return [file for _, file in parts]


def load_parts(folder: Path, files: dict[str, list[Path]]) -> Decoded:
    """Load the splits from their files; the classes are those in shape_names.txt, or of ScanObjectNN.

    Files with other names than ScanObjectNN's have as many classes as the largest label says.
    """
    names, scans = folder / "shape_names.txt", "objectdataset" in files["train"][0].name
    classes = tuple(read_lines(names)) if names.is_file() else SCANS if scans else ()
    splits = _read_parts(folder, files, len(classes) or None)
    return _named(folder, splits, classes)


def _named(folder: Path, splits: Splits, classes: tuple[str, ...]) -> Decoded:
    """The splits with the names of their classes, which are numbers by default; a class without clouds is told."""
    names = classes or tuple(map(str, range(1 + max(int(labels.max()) for _, labels in splits.values()))))
    if absent := {*range(len(names))} - {*splits["train"][1].tolist()}:
        found = f"of its {len(names)} classes, no cloud to train has {few([names[i] for i in sorted(absent)], 8)}"
        fix = "check that labels are their numbers, from 0" if classes else "number the classes from 0 without gaps"
        warn(f"{folder}: {found}; {fix}")
    return Decoded(splits, names)


def _read_parts(folder: Path, files: dict[str, list[Path]], classes: int | None) -> Splits:
    """Read the files of each split and join them: [n, P, 3] and int64 [n], in the order of the files."""
    splits, sizes = {}, set[int]()
    for split, parts in files.items():
        points, labels = zip(*(read_h5(file, classes) for file in parts), strict=True)
        sizes |= {array.shape[1] for array in points}
        if len(sizes) > 1:
            raise DataError(f"{folder}: its files have clouds of {' and '.join(map(str, sorted(sizes)))} points")
        splits[split] = np.concatenate(points), np.concatenate(labels)
    return splits


def read_h5(path: Path, classes: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Read ``data`` [n, P, 3 or more] and ``label`` [n], [n, 1] or [1, n].

    Either may have another of its usual NAMES, if no other array has one. Sizes are checked before memory is allocated.

    What follows x, y and z (normals, colors) is not used, as in other files of points.

    Points are float32, or float64 if the file has these: far from the origin, float32 would round their shape away.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file" if not path.exists() else f"{path}: not a regular file")
    try:
        with h5py.File(path, "r") as file:
            data, label = (_dataset(file, _find(file, kind, path), path) for kind in NAMES)
            is_turned = data.ndim == 3 and data.shape[1] == 3 != data.shape[2]
            is_reversed = data.ndim == 3 and data.shape[0] == 3 and label.size == data.shape[2] != 3
            has_points = data.ndim == 3 and data.shape[2] in COLUMNS and not is_turned and not is_reversed
            if data.dtype.kind != "f" or not has_points or 0 in data.shape:
                how = "; swap its last two axes" if is_turned else "; reverse its axes" if is_reversed else ""
                said = f"{_name(data)} is {data.dtype} {list(data.shape)}"
                raise DataError(f"{path}: {said}, not float [n, P, 3]{how}")
            count = data.shape[0]
            if label.dtype.kind not in "iuf" or label.shape not in ((count,), (count, 1), (1, count)):
                raise DataError(f"{path}: {_name(label)} is {label.dtype} {list(label.shape)}, not int [{count}, 1]")
            if math.prod(data.shape) > MAX_VALUES:
                raise DataError(f"{path}: {_name(data)} {list(data.shape)} has more than {MAX_VALUES:,} values")
            for dataset in (data, label):
                # A chunk is unpacked completely, however little of it is read.
                claimed = max(dataset.size, math.prod(dataset.chunks or ())) * dataset.dtype.itemsize
                stored = min(dataset.id.get_storage_size(), path.stat().st_size)
                if claimed > max(UNSTORED, EXPANSION * stored):
                    raise DataError(f"{path}: {dataset.name} claims {claimed:,} bytes, but the file stores {stored:,}")
            kind = np.float64 if data.dtype.itemsize > 4 else np.float32
            points = np.ascontiguousarray(data[()][:, :, :3], dtype=kind)
            labels = label[()].ravel()
    except DataError:
        raise
    # What h5py raises for a damaged file depends on the version of the library under it.
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        reason = stand_in(path) or " ".join(str(error).split())
        raise DataError(f"{path}: truncated or damaged ({reason})") from error
    check_clouds(points, path)
    most = MAX_CLASSES if classes is None else classes
    wrong = ~((labels >= 0) & (labels < most) & (labels == np.floor(labels)))  # also true for NaN
    if wrong.any():
        row = wrong.argmax()
        fix = "number the classes from 0" + ", and name all of them in shape_names.txt" * (classes is not None)
        raise DataError(f"{path}: label {labels[row]} of cloud {row} (from 0) is not one of 0..{most - 1}; {fix}")
    return points, labels.astype(np.int64)


def _find(file: h5py.File, kind: str, path: Path) -> str:
    """The name that an array has: its own one, or the only other that is usual for it."""
    if kind in file:
        return kind
    if len(found := [key for key in file if key.lower() in NAMES[kind]]) == 1:
        return found[0]
    what = f"both {found[0]!r} and {found[1]!r}" if found else f"no {kind!r}, but {few(map(repr, file)) or 'nothing'}"
    raise DataError(f"{path}: has {what}; call the array of {MEANT[kind]} {kind!r}")


def _name(dataset: h5py.Dataset) -> str:
    return dataset.name.lstrip("/")


def _dataset(file: h5py.File, key: str, path: Path) -> h5py.Dataset:
    # A link, a virtual data set or external storage would read files that are not named here.
    dataset = file[key] if isinstance(file.get(key, getlink=True), h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise DataError(f"{path}: {key!r} is not an array stored in this file")
    return dataset

"""Images that a table labels: a CSV file next to them, as competitions and annotation tools write it."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from io import StringIO
from pathlib import Path, PurePosixPath

import numpy as np

from comhe.datasets.io.cache import Splits
from comhe.datasets.io.files import MAX_LIST_BYTES
from comhe.datasets.io.layouts import SPLIT_NAMES
from comhe.errors import DataError, few, warn
from comhe.inputs.files import read_bounded
from comhe.inputs.tables import plain_text

TABLES = ("labels.csv", "metadata.csv", "annotations.csv", "train.csv")
FILE = ("file_name", "filename", "file", "image", "image_id", "img", "path", "id", "name")
LABEL = ("label", "class", "target", "category", "y")
SPLIT = ("split",)
_SPLIT_OF = {word: split for split, words in SPLIT_NAMES.items() for word in words}


def find_table(folder: Path) -> Path | None:
    """Return the first of TABLES in a folder that has columns of files and labels."""
    paths = [folder / name for name in TABLES if (folder / name).is_file()]
    return next((path for path in paths if None not in _columns(_rows(path)[0])[:2]), None)


def names_images(path: Path, images: Sequence[str]) -> bool:
    """Whether the first row of a table names an image; one of classes, next to their folders, does not."""
    header, *rows = _rows(path)
    file, *_ = _columns(header)
    return bool(rows) and file is not None and file < len(rows[0]) and _plain(rows[0][file]) in _by_name(images)


def list_table(path: Path, images: Sequence[str]) -> tuple[tuple[str, ...], Splits]:
    """The classes, and for each split the paths and labels of the images that a table lists.

    ``images`` are the paths of all images below the table's folder. A row may name one by its path, by its name, or
    by its name without the ending. Rows without a label, and images without a row, are not used; a warning tells.
    Without a column ``split`` all images are ``train``.

    Raises:
        DataError: a row names no image or several, or an image has two classes, or a split an unknown name.
    """
    header, *rows = _rows(path)
    file, label, split = _columns(header)
    assert file is not None and label is not None  # noqa: PT018 - find_table has looked
    known = _by_name(images)
    found: dict[str, tuple[str, str]] = {}
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise DataError(f"{path}: row {number} has {len(row)} cells, the header has {len(header)}")
        name, of = _plain(row[file]), row[label].strip()
        word = row[split].strip().lower() if split is not None else "train"
        if not of:
            continue
        if len(named := known.get(name, set())) != 1:
            how = f"may be any of {few(sorted(named), 4)}" if named else "is none of the images in the folder"
            raise DataError(f"{path}: row {number}: {name[:60]!r} {how}; give its path from {path.parent}")
        if word not in _SPLIT_OF:
            raise DataError(f"{path}: row {number}: a split is train, val or test, not {word[:40]!r}")
        (image,), place = named, (_SPLIT_OF[word], of)
        if found.setdefault(image, place) != place:
            raise DataError(
                f"{path}: row {number}: {name[:60]!r} has two rows, with {found[image][1]!r} and {of[:40]!r}"
            )
    if left := sorted(set(images) - found.keys()):
        warn(f"{path}: gives no label to {len(left):,} of {len(images):,} images, which are not used: {few(left, 3)}")
    names = {of for _, of in found.values()}
    classes = tuple(sorted(names, key=int) if all(map(str.isdecimal, names)) else sorted(names))
    return classes, {split: _listed(found, split, classes, path) for split in {split for split, _ in found.values()}}


def _listed(
    found: dict[str, tuple[str, str]], split: str, classes: Sequence[str], path: Path
) -> tuple[np.ndarray, np.ndarray]:
    """The images of a split and their labels, by class and name."""
    rows = sorted((classes.index(of), image) for image, (where, of) in found.items() if where == split)
    if missing := [name for i, name in enumerate(classes) if i not in {label for label, _ in rows}]:
        raise DataError(
            f"{path}: {split} has no image of class {missing[0]!r}, but every split needs some of every class"
        )
    return np.array([image.encode("utf-8", "surrogateescape") for _, image in rows]), np.array([i for i, _ in rows])


def _plain(name: str) -> str:
    return name.strip().replace("\\", "/").removeprefix("./")


def _by_name(images: Sequence[str]) -> dict[str, set[str]]:
    """The images by path, by name, and by name without the ending."""
    known = defaultdict[str, set[str]](set)
    for image in images:
        for name in (image, PurePosixPath(image).name, PurePosixPath(image).stem):
            known[name].add(image)
    return known


def _columns(header: Sequence[str]) -> list[int | None]:
    """The positions of the files, of the labels, and of the splits."""
    names = [name.strip().lower() for name in header]
    return [next((names.index(name) for name in known if name in names), None) for known in (FILE, LABEL, SPLIT)]


def _rows(path: Path) -> list[list[str]]:
    text = plain_text(read_bounded(path, MAX_LIST_BYTES)).decode("utf-8", "replace")
    mark = max(",;\t", key=text.partition("\n")[0].count)
    try:
        return [row for row in csv.reader(StringIO(text), delimiter=mark) if row] or [[]]
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file ({error})") from error

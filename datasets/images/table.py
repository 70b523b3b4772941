"""Images that a table labels: a CSV file next to them, as competitions and annotation tools write it."""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path, PurePosixPath
from posixpath import normpath
from unicodedata import normalize

import numpy as np

from comhe.datasets.graphs.fields import MISSING, whole
from comhe.datasets.io.cache import Splits
from comhe.datasets.io.layouts import PARTS
from comhe.errors import DataError, few, warn
from comhe.inputs.files import read_bounded
from comhe.inputs.tables import plain_text

TABLES = ("labels.csv", "metadata.csv", "annotations.csv", "train.csv")
FILE = (
    *(f"{kind}_{word}" for kind in ("file", "image", "img") for word in ("path", "name")),
    *("filepath", "filename", "path", "file", "image", "img", "image_id", "id", "name"),
)
LABEL = ("label", "class", "target", "category", "y")
SPLIT = ("split",)
MAX_BYTES = 1 << 28  # of a table


@dataclass(frozen=True)
class Table:
    """The rows of a CSV file, with its header, and the positions of the files, of the labels and of the splits."""

    path: Path
    rows: list[list[str]]
    file: int
    label: int
    split: int | None


def find_table(folder: Path) -> Table | None:
    """Return the first of TABLES in a folder that has columns of files and labels."""
    for path in (folder / name for name in TABLES):
        rows = _rows(path) if path.is_file() else [[]]
        file, label, split = _columns(rows[0])
        if file is not None and label is not None:
            return Table(path, rows, file, label, split)
    return None


def names_image(table: Table, images: Sequence[str]) -> bool:
    """Whether the first row of a table names an image; one of classes, next to their folders, does not."""
    names = [row[table.file] for row in table.rows[1:2] if table.file < len(row)]
    return any(_find(name, _by_name(images), table.path) for name in names)


def list_table(table: Table, images: Sequence[str]) -> tuple[tuple[str, ...], Splits]:
    """The classes, and for each split the paths and labels of the images that a table lists.

    ``images`` are the paths of all images below the table's folder. A row may name one by its path, by its name, or
    by its name without the ending. Rows without a label, and images without a row, are not used; a warning tells.
    Without a column ``split`` all images are ``train``.

    Raises:
        DataError: a row names no image or several, or an image has two classes, or a split an unknown name.
    """
    path, split, known = table.path, table.split, _by_name(images)
    header, *rows = table.rows
    found: dict[str, tuple[str, str]] = {}
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise DataError(f"{path}: row {number} has {len(row)} cells, the header has {len(header)}")
        name, of = row[table.file].strip(), whole(row[table.label].strip())
        word = row[split].strip().lower() if split is not None else "train"
        if of.lower() in MISSING:
            continue
        if len(named := _find(name, known, path)) != 1:
            how = f"may be any of {few(sorted(named), 4)}" if named else "is none of the images in the folder"
            raise DataError(f"{path}: row {number}: {name[:60]!r} {how}; give its path from {path.parent}")
        if word not in PARTS:
            raise DataError(f"{path}: row {number}: a split is train, val or test, not {word[:40]!r}")
        (image,), place = named, (PARTS[word], of)
        if found.setdefault(image, place) != place:
            two = f"with {found[image][1]!r} and {of[:40]!r}"
            raise DataError(
                f"{path}: row {number}: {name[:60]!r} has two rows, {two}; only one class an image is learned"
            )
    if left := sorted(set(images) - found.keys()):
        warn(f"{path}: gives no label to {len(left):,} of {len(images):,} images, which are not used: {few(left, 3)}")
    names = {of for _, of in found.values()}
    classes = tuple(sorted(names, key=int) if all(map(str.isdecimal, names)) else sorted(names))
    if len(classes) == 1:
        raise DataError(f"{path}: has one class only, {classes[0]!r}")
    return classes, {split: _listed(found, split, classes, path) for split in {split for split, _ in found.values()}}


def _listed(
    found: dict[str, tuple[str, str]], split: str, classes: Sequence[str], path: Path
) -> tuple[np.ndarray, np.ndarray]:
    """The images of a split and their labels, by class and name."""
    numbers = {name: number for number, name in enumerate(classes)}
    rows = sorted((numbers[of], image) for image, (where, of) in found.items() if where == split)
    present = {number for number, _ in rows}
    if missing := [name for name in classes if numbers[name] not in present]:
        raise DataError(
            f"{path}: {split} has no image of class {missing[0]!r}, but every split needs some of every class"
        )
    return np.array([image.encode("utf-8", "surrogateescape") for _, image in rows]), np.array([i for i, _ in rows])


def _by_name(images: Sequence[str]) -> dict[str, list[str]]:
    """The images by path, by name, and by name without the ending."""
    known = defaultdict[str, list[str]](list)
    for image in images:
        for name in dict.fromkeys((image, PurePosixPath(image).name, PurePosixPath(image).stem)):
            known[normalize("NFC", name)].append(image)
    return known


def _find(name: str, known: Mapping[str, list[str]], path: Path) -> list[str]:
    """The images that a row may name; of train.csv those in train/, if there are any."""
    plain = normpath(name.strip().replace("\\", "/")).removeprefix(f"{path.parent.as_posix()}/")
    found = known.get(normalize("NFC", plain), [])
    return [image for image in found if image.startswith(f"{path.stem}/")] or found


def _columns(header: Sequence[str]) -> list[int | None]:
    """The positions of the files, of the labels, and of the splits."""
    names = [name.strip().lower() for name in header]
    return [next((names.index(name) for name in known if name in names), None) for known in (FILE, LABEL, SPLIT)]


def _rows(path: Path) -> list[list[str]]:
    text = plain_text(read_bounded(path, min(MAX_BYTES, path.stat().st_size))).decode("utf-8", "replace")
    mark = max(",;\t", key=text.partition("\n")[0].count)
    try:
        rows = csv.reader(StringIO(text), delimiter=mark, skipinitialspace=True)
        return [row for row in rows if any(map(str.strip, row))] or [[]]
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file ({error})") from error

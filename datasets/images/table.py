"""Images that a table labels: a CSV or JSON Lines file next to them, as competitions and annotation tools write it."""

import csv
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path, PurePosixPath
from posixpath import join, normpath
from typing import Any
from unicodedata import normalize

import numpy as np

from comhe.datasets.io.cache import Splits
from comhe.datasets.io.cells import MISSING, read_cells, table_text, whole
from comhe.datasets.io.layouts import PARTS, children
from comhe.errors import DataError, few, warn

NAMES, ENDINGS = ("labels", "metadata", "annotations", "train"), (".csv", ".tsv", ".jsonl")
TABLES = tuple(name + ending for name in NAMES for ending in ENDINGS)
FILE = (
    *(f"{kind}_{word}" for kind in ("file", "image", "img") for word in ("path", "name")),
    *("filepath", "filename", "path", "file", "image", "img", "image_id", "id", "name"),
)
LABEL = ("label", "class", "target", "category", "y")
COLUMNS = FILE, LABEL, ("split",)
Row = tuple[str, str, str, str | None]  # where it stands, the file, the label, and the split, if a column has it


@dataclass(frozen=True)
class Table:
    """The rows of one or several files in a folder."""

    folder: Path
    files: tuple[str, ...]
    rows: Sequence[Row]

    @property
    def path(self) -> Path:
        return self.folder / self.files[0] if len(self.files) == 1 else self.folder


def tables_in(folder: Path) -> list[Path]:
    """Return the files in a folder that may be tables: CSV before others, and lowercase names before others."""
    found = [child for child in children(folder) if child.name.lower() in TABLES and os.path.isfile(child)]

    def place(path: Path) -> tuple[int, bool, int]:
        name = path.name.lower()
        return ENDINGS.index(path.suffix.lower()), name != path.name, TABLES.index(name)

    return sorted(found, key=place)


def find_table(paths: Sequence[Path]) -> Table | None:
    """Return the first of the tables that has columns of files and labels."""
    tables = (Table(path.parent, (path.name,), _rows(path)) for path in paths)
    return next((table for table in tables if table.rows), None)


def join_tables(tables: Sequence[Table]) -> Table:
    """Return the tables in the folders of splits, as Hugging Face has them, as one of the folder above."""
    rows = [(at, join(table.folder.name, name), of, None) for table in tables for at, name, of, _ in table.rows]
    return Table(tables[0].folder.parent, tuple(f"{table.folder.name}/{table.files[0]}" for table in tables), rows)


def names_image(table: Table, images: Sequence[str]) -> bool:
    """Whether a row of a table names an image; those of a list of classes, next to their folders, do not."""
    known = _by_name(images)
    return any(_find(name, known, table) for _, name, _, _ in table.rows)


def list_table(table: Table, images: Sequence[str]) -> tuple[tuple[str, ...], Splits]:
    """The classes, and for each split the paths and labels of the images that a table lists.

    ``images`` are the paths of all images below the table's folder. A row may name one by its path or its name, both
    also without the ending, and in another case if only one fits. Rows without a label, and images without a row, are
    not used; a warning tells. Without a column ``split``, folders in ``images`` are the splits if one of them is to
    train; other images are ``train``.

    Raises:
        DataError: a row names no image or several, or an image has two classes, or a split an unknown name.
    """
    path, known = table.path, _by_name(images)
    folders = {image: PARTS.get(image.partition("/")[0].lower()) for image in images}
    folders = folders if "train" in folders.values() else {}
    found: dict[str, tuple[str, str]] = {}
    for where, name, label, split in table.rows:
        of = whole(label)
        if of.lower() in MISSING:
            continue
        if len(named := _find(name, known, table)) != 1:
            how = f"may be any of {few(sorted(named), 4)}" if named else "is none of the images in the folder"
            raise DataError(f"{where}: {name[:60]!r} {how}; give its path from the folder of the table")
        (image,) = named
        if split is not None and split not in PARTS:
            raise DataError(f"{where}: a split is train, val or test, not {split[:40]!r}")
        place = PARTS[split] if split else folders.get(image) or "train", of
        if found.setdefault(image, place) != place:
            two = f"with {found[image][1]!r} and {of[:40]!r}"
            raise DataError(f"{where}: {name[:60]!r} has two rows, {two}; only one class an image is learned")
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
    """The images by path, by name, and by both without the ending; the same in small letters after a zero."""
    known = defaultdict[str, list[str]](list)
    for image in images:
        path = PurePosixPath(normalize("NFC", image))
        for name in {f"{path}", path.name, f"{path.with_suffix('')}", path.stem}:
            known[name].append(image)
            known[f"\0{name.casefold()}"].append(image)
    return known


def _find(name: str, known: Mapping[str, list[str]], table: Table) -> list[str]:
    """The images that a row may name; of train.csv those in train/, if there are any."""
    plain = normpath(name.strip().replace("\\", "/")).removeprefix(f"{table.folder.as_posix()}/")
    plain = normalize("NFC", plain)
    found = known.get(plain) or known.get(f"\0{plain.casefold()}", [])
    return [image for image in found if image.lower().startswith(f"{table.path.stem.lower()}/")] or found


def _rows(path: Path) -> list[Row]:
    """The rows of a table; none of one without columns of files and labels."""
    found = (_objects if path.suffix.lower() == ".jsonl" else _cells)(path)
    return [
        (at, _word(file, at), _word(label, at), None if split is None else _word(split, at).lower())
        for at, file, label, split in found
    ]


def _cells(path: Path) -> Iterator[tuple[str, Any, Any, Any]]:
    """Where each row of a CSV file stands, and its file, label and split."""
    text, mark = read_cells(path)
    try:
        cells = csv.reader(StringIO(text), delimiter=mark, skipinitialspace=True)
        header, *rows = [row for row in cells if any(map(str.strip, row))] or [[]]
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file ({error})") from error
    file, label, split = _columns(header)
    if file is None or label is None:
        return
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise DataError(f"{path}: row {number} has {len(row)} cells, the header has {len(header)}")
        yield f"{path}: row {number}", row[file], row[label], None if split is None else row[split]


def _objects(path: Path) -> Iterator[tuple[str, Any, Any, Any]]:
    """The same of a JSON Lines file, whose lines are objects with the keys of the first."""
    keys: list[str | None] = []
    for number, line in enumerate(StringIO(table_text(path)), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: row {number} is not JSON ({error})") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}: row {number} is {line.strip()[:60]!r}, not an object with file_name and label")
        if not keys:
            header = [*row]
            keys = [None if column is None else header[column] for column in _columns(header)]
        file, label, split = keys
        if file is None or label is None:
            return
        yield f"{path}: row {number}", row.get(file), row.get(label), row.get(split)


def _columns(header: Sequence[str]) -> list[int | None]:
    """Which columns are the file, the label and the split."""
    names = ["_".join(name.lower().split()) for name in header]
    return [next((names.index(each) for each in known if each in names), None) for known in COLUMNS]


def _word(value: Any, where: str) -> str:
    """A cell of a table, without space around it; nothing is the empty word."""
    if isinstance(value, list | dict):
        raise DataError(f"{where}: a file, label or split is a word or a number, not {json.dumps(value)[:60]}")
    word = "" if value is None else str(value).strip()
    try:
        word.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: {word[:60]!r} has half a letter (a surrogate); write it in UTF-8") from error
    return word

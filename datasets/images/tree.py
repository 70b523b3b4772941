"""Folders of labeled image files in the layouts that are usual, as lists of paths and labels.

What operating systems leave behind is passed over. Anything else that does not belong in such a folder is an error that
names it, because a wrong set is worse than none.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from comhe.datasets.io.cache import Splits
from comhe.datasets.io.files import MAX_LIST_BYTES, MissingDataError, read_text
from comhe.datasets.io.layouts import (
    PARTS,
    check_no_splits,
    children,
    files_below,
    has_file,
    is_class,
    may_be_split,
    not_a_folder,
    require_classes,
    split_folders,
    told_alike,
    warn_of_folders,
    warn_of_others,
    warn_of_unlabeled,
)
from comhe.errors import DataError, few, warn
from comhe.inputs.pixels import EXTENSIONS

from .table import Table, find_table, join_tables, list_table, names_image, tables_in

SPLITS = ("train", "val", "test")
ENDINGS = tuple(EXTENSIONS)


@dataclass(frozen=True)
class Tree:
    """The files of a tree: for each split the paths below ``folder``, bytes [n] by class and name, and int64 labels."""

    folder: Path
    classes: tuple[str, ...]
    splits: Splits
    note: str = ""  # what a reader of the data's description has to know
    tables: tuple[str, ...] = ()  # the files that have the labels, if folders do not say them

    def __len__(self) -> int:
        return sum(len(paths) for paths, _ in self.splits.values())

    @property
    def files(self) -> list[str]:
        listed = [os.fsdecode(path) for paths, _ in self.splits.values() for path in paths]
        return [*listed, *self.tables]

    def path(self, name: bytes) -> str:
        return os.path.join(self.folder, os.fsdecode(name))


def list_tree(folder: Path, splits: Sequence[str] = SPLITS) -> Tree:
    """List the images in SPLIT/CLASS/ of ``folder``, or in CLASS/, which are then all ``train``; at any depth.

    A split has one of the names in ``SPLIT_NAMES``; ``val`` is the test split if there is no ``test`` (ImageNet's
    convention). As in Tiny ImageNet, the images of a split may lie in SPLIT/images with their classes in
    SPLIT/SPLIT_annotations.txt, and words.txt gives the classes names. A table may have the labels instead of
    folders, see :mod:`.table`.
    """
    note = ""
    if not folder.is_dir():
        raise MissingDataError(f"{folder}: {not_a_folder(folder)}")
    named = split_folders(folder)
    present = {split: path for split, path in named.items() if split in splits and may_be_split(path, ENDINGS)}
    if splits == SPLITS and "train" in named and (first := _table(named["train"])) is not None:
        others = (_table(path) for split, path in named.items() if split != "train")
        return _tabled(join_tables([first, *filter(None, others)]))
    if splits == SPLITS and (table := _table(folder, present.get("train"))) is not None:
        return _tabled(table)
    if not present and splits == SPLITS and (classes := _class_folders(folder)):
        warn_of_unlabeled(folder, [child.name for child in children(folder) if _is_image(child.name)])
        return Tree(folder, classes, {"train": _list_classes(folder, folder, classes)})
    if splits == SPLITS and "train" in present:
        note = _unlabeled_test(folder, present)
        _check_others(folder, present)
    if "train" not in present or len(present) == 1:
        lacks = "train" if "train" not in present else " or ".join(splits[1:])
        raise MissingDataError(f"{folder}: has no folder {lacks}; {_advice(folder, present.get('train'))}")
    classes = tuple(child.name for child in children(present["train"]) if _is_folder(child))
    found = {split: _list_split(folder, path, classes) for split, path in present.items() if split in splits}
    require_classes(present["train"], classes)
    if "test" not in found:
        found["test"] = found.pop("val")
    return Tree(folder, _names(folder, classes), found, note)


def _table(folder: Path, train: Path | None = None) -> Table | None:
    """The table that labels the images of a folder, unless folders in it, or in ``train``, are classes.

    A warning tells of both. A list of classes next to them is no such table.
    """
    if not (paths := tables_in(folder)):
        return None
    with_images = [child for child in children(train or folder) if child.is_dir() and has_file(child, ENDINGS)]
    named = [child for child in with_images if child.name.lower() not in PARTS]
    if len(classes := with_images if train else named) < 2:
        table = find_table(paths)
        if table is None or not named or len(with_images) < 2 or names_image(table, _images(folder)):
            return table
        return None  # it may list the classes, one of which is called as a split is
    with suppress(DataError):  # of a file that need not be a table
        if (table := find_table(paths)) is not None and names_image(table, _images(folder)):
            how = "put the images into one folder to use it"
            warn(f"{table.path}: not used, as {few([child.name for child in classes], 3)} are classes; {how}")
    return None


def _images(folder: Path) -> list[str]:
    return [file for file in files_below(folder) if _is_image(file)]


def _tabled(table: Table) -> Tree:
    classes, found = list_table(table, _images(table.folder))
    if "train" not in found:
        raise DataError(f"{table.path}: no image of train has a label")
    if "test" not in found and "val" in found:
        found["test"] = found.pop("val")
    splits = {split: found[split] for split in SPLITS if split in found}
    return Tree(table.folder, classes, splits, f"labels of {', '.join(table.files)}", table.files)


def _is_folder(child: Path) -> bool:
    if not child.is_dir():
        raise DataError(f"{child}: not a folder; a split has one folder for each class")
    return True


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def _class_folders(folder: Path) -> tuple[str, ...]:
    """The folders in a folder without splits, if there are two or more with images in them.

    Those of other formats are among them, and become an error; what is no class becomes a warning.
    """
    files = {child.name: files_below(child) for child in children(folder) if child.is_dir()}
    with_images = [name for name in files if any(map(_is_image, files[name]))]
    if len(with_images) < 2:
        return ()
    check_no_splits(folder, with_images)
    classes = [name for name in files if name in with_images or is_class(files[name])]
    warn_of_folders(folder, [name for name in files if name not in classes], "an image")
    return tuple(classes)


def _advice(folder: Path, train: Path | None) -> str:
    if train is not None:
        return f"folder:{train} draws images to test from those in train"
    folders = [child for child in children(folder) if child.is_dir()]
    inside = [child for child in folders if any(map(_is_image, files_below(child)))]
    for flat in (folder, *inside):
        if any(_is_image(child.name) for child in children(flat)):
            of_a_class = f", or name folder:{flat.parent} if they are of one class" if flat == folder else ""
            how = f"move each to {flat}/CLASS/{of_a_class}"
            listed = "nor listed in labels.csv with columns file and label"
            return f"the images in {flat} have no labels, as they are in no class folders, {listed}: {how}"
    if len(inside) == 1:
        return f"its data may be folder:{inside[0]}"
    return f"images belong in {folder}/SPLIT/CLASS/, or without splits in {folder}/CLASS/"


def _unlabeled_test(folder: Path, present: dict[str, Path]) -> str:
    """Tiny ImageNet's test images have no labels: they are not used, and the description says so."""
    test = present.get("test")
    if test is None or not (folder / "wnids.txt").is_file() or (test / "test_annotations.txt").is_file():
        return ""
    if [child.name for child in children(test)] != ["images"] or "val" not in present:
        return ""
    present["unlabeled"] = present.pop("test")
    return "val is the test split, because the images in test have no labels"


def _check_others(folder: Path, present: dict[str, Path]) -> None:
    """A folder of images that would be ignored is an error if it looks like a split, and otherwise a warning."""
    classes, ignored = {child.name for child in children(present["train"])}, []
    for child in children(folder):
        if not child.is_dir() or any(child.samefile(split) for split in present.values()):
            continue
        if classes & {entry.name for entry in children(child)}:
            raise DataError(
                f"{child}: has classes of train; name it as a split ({', '.join(PARTS)}), or keep it elsewhere"
            )
        if child.name.lower() in PARTS:
            raise DataError(f"{child}: has no class folders, so its images have no labels; keep it elsewhere")
        if has_file(child, ENDINGS):
            ignored.append(child.name)
    warn_of_others(folder, ignored)


def _list_split(folder: Path, path: Path, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    annotations, images = path / f"{path.name}_annotations.txt", path / "images"
    inside = children(path)
    if annotations.is_file():
        if not {child.name for child in inside} & {*classes}:
            return _list_annotated(folder, path, annotations, classes)
        inside.remove(annotations)  # left behind when the images were sorted into classes
    if images in inside and images.is_dir() and not files_below(images):
        inside.remove(images)
    found = {child.name for child in inside if _is_folder(child)}
    if unknown := sorted(found - set(classes)):
        alike = told_alike(unknown[0], classes)
        raise DataError(f"{path / unknown[0]}: this class is missing from {folder}/train{alike}")
    return _list_classes(folder, path, classes)


def _list_classes(folder: Path, path: Path, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    if not classes:
        raise DataError(f"{path}: contains no class folder")
    paths, counts = [], []
    boxes = (folder / "wnids.txt").is_file()  # Tiny ImageNet has a list of boxes in each class
    for name in classes:
        files = files_below(path / name) if (path / name).is_dir() else []
        files = [file for file in files if not (boxes and file == f"{name}_boxes.txt")]
        for file in files:
            if not _is_image(file):
                kinds = " ".join(sorted(EXTENSIONS))
                raise DataError(f"{path / name / file}: not an image file ({kinds}); keep it outside of the classes")
        if not files:
            raise DataError(f"{path / name}: has no image, but every class needs some in every split")
        start = (path / name).relative_to(folder).as_posix()
        paths += [os.fsencode(f"{start}/{file}") for file in files]
        counts.append(len(files))
    return np.array(paths), np.repeat(np.arange(len(classes)), counts)


def _list_annotated(
    folder: Path, path: Path, annotations: Path, classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """List SPLIT/images by the classes that lines FILE, CLASS, ... of a table say."""
    classes_of: dict[str, str] = {}
    for number, line in enumerate(_text(annotations).splitlines(), 1):
        file, _, rest = line.partition("\t")
        name = rest.partition("\t")[0].strip()
        if not line.strip():
            continue
        if name not in classes or file in classes_of or "/" in file:
            raise DataError(f"{annotations}: line {number}: {line[:60]!r} is not an image and a class of train")
        classes_of[file] = name
    files = set(files_below(path / "images")) if (path / "images").is_dir() else set()
    if odd := sorted(files ^ classes_of.keys()):
        where = "not in images/" if odd[0] in classes_of else "without a class"
        raise DataError(f"{annotations}: {odd[0]!r} is {where}")
    start = (path / "images").relative_to(folder).as_posix()
    order = sorted(classes_of, key=lambda file: (classes_of[file], file))
    labels = np.array([classes.index(classes_of[file]) for file in order], dtype=np.int64)
    return np.array([os.fsencode(f"{start}/{file}") for file in order]), labels


def _names(folder: Path, classes: tuple[str, ...]) -> tuple[str, ...]:
    """The classes' first words in words.txt, if all are in it; with the synset where two have the same one."""
    words = folder / "words.txt"
    if not words.is_file() or not (folder / "wnids.txt").is_file():
        return classes
    table = dict(line.partition("\t")[::2] for line in _text(words).splitlines())
    if not all(table.get(name, "").strip() for name in classes):
        return classes
    first = [table[name].partition(",")[0].strip() for name in classes]
    return tuple(w if first.count(w) == 1 else f"{w} ({name})" for w, name in zip(first, classes, strict=True))


def _text(path: Path) -> str:
    return read_text(path, MAX_LIST_BYTES)

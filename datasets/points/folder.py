"""``folder:PATH``: HDF5 files in PointNet's layout, or meshes and clouds of any size by class; and ScanObjectNN.

Source: Uy et al., "Revisiting Point Cloud Classification", ICCV 2019 (ScanObjectNN).
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from comhe.datasets.io.cache import Decoded, cached
from comhe.datasets.io.files import MissingDataError, missing
from comhe.datasets.io.layouts import (
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
from comhe.datasets.labeled import SPLITS, draw_test
from comhe.datasets.registry import register_dataset
from comhe.datasets.sampling import shuffled
from comhe.errors import DataError, UsageError, few, warn
from comhe.inputs.files import text_seed
from comhe.inputs.shapes import POINTS, SUFFIXES, read_cloud, unit_sphere
from comhe.progress import tracked

from .clouds import HOLD_OUT_SEED, Clouds
from .hdf5 import HDF5, find_parts, is_h5_folder, load_h5_folder, load_parts

# What lies next to meshes: their materials, and in ShapeNet the voxels and the facts of each.
MATERIALS = (".mtl", ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tga", ".binvox", ".json")
CLOUDS = tuple(suffix for suffix in SUFFIXES if suffix not in (".txt", ".csv"))  # and no list or note
TERMS = "for research, as its authors' terms of use say"


@register_dataset(
    "scanobjectnn", "points", license=TERMS,
    about="clouds of 2,048 points of scanned objects with background, 15 classes (OBJ_BG)",
)  # fmt: skip
def load_scanobjectnn(root: Path) -> Clouds:
    """Load ScanObjectNN's objects with their background (OBJ_BG)."""
    return _load_scans(root, "scanobjectnn", "main_split", "objectdataset")


@register_dataset(
    "scanobjectnn-objects", "points", license=TERMS,
    about="the same objects without background (OBJ_ONLY)",
)  # fmt: skip
def load_scanobjectnn_objects(root: Path) -> Clouds:
    """Load ScanObjectNN's objects without background (OBJ_ONLY)."""
    return _load_scans(root, "scanobjectnn-objects", "main_split_nobg", "objectdataset")


@register_dataset(
    "scanobjectnn-hardest", "points", license=TERMS,
    about="the same objects shifted, turned and scaled, with background (PB_T50_RS)",
)  # fmt: skip
def load_scanobjectnn_hardest(root: Path) -> Clouds:
    """Load ScanObjectNN's hardest variant, of shifted, turned and scaled objects with background (PB_T50_RS)."""
    return _load_scans(root, "scanobjectnn-hardest", "main_split", "objectdataset_augmentedrot_scale75")


def _load_scans(root: Path, name: str, split: str, rest: str) -> Clouds:
    roots = [root / folder for folder in ("h5_files", "scanobjectnn", "ScanObjectNN", "ScanObjectNN/h5_files")]
    pairs = [(base / split / f"training_{rest}.h5", base / split / f"test_{rest}.h5") for base in roots]
    pair = next((pair for pair in pairs if all(map(Path.is_file, pair))), None)
    if pair is None:
        names = f"h5_files/{split}/training_{rest}.h5 and test_{rest}.h5"
        raise missing(f"{name}: {root} has no {names}, which its authors give: hkust-vgd.github.io/scanobjectnn")
    files = {"train": [pair[0]], "test": [pair[1]]}
    return build(name, f"ScanObjectNN, {split}/*_{rest}.h5", ready(load_parts(pair[0].parent, files)), "y")


@register_dataset("folder", "points", license="its owner's", about="meshes or clouds of your own, by class")
def load_folder(path: Path, root: Path, seed: int | None = None, up: str | None = None) -> Clouds:
    """Load HDF5 files (y is up), or meshes and clouds by class (z is up); ``up`` says if it is another axis.

    Without splits, a fifth of each class is drawn to test; without ``val``, a tenth of the rest to validate.
    """
    if not path.is_dir():
        raise MissingDataError(f"folder:{path}: {not_a_folder(path)}")
    if is_h5_folder(path):
        decoded, axis = ready(load_h5_folder(path)), "y"
    elif files := find_parts(path):
        decoded, axis = ready(load_parts(path, files)), "y"
    else:
        decoded, axis = load_shape_folder(path, root), "z"
    return build(f"folder:{path}", str(path), decoded, up or axis, seed)


def build(name: str, source: str, decoded: Decoded, up: str, seed: int | None = None, front: str = "") -> Clouds:
    """Build a set, and draw the splits that it does not have, with a ``seed`` or the standard ones."""
    splits, said, draw = dict(decoded.splits), [], "" if seed is None else f", seed {seed}"
    if "test" not in splits:
        splits, drawn = draw_test(name, splits, HOLD_OUT_SEED if seed is None else seed)
        said.append(f"{drawn} of each class drawn to test{draw}")
    said.append("its own split" if "val" in splits else f"10 % of train held out{draw}")
    if seed is not None and "val" in splits:
        raise UsageError(f"{name!r} has its own validation clouds, so none are drawn: leave out -random{seed}")
    options: dict[str, Any] = {"classes": decoded.classes, "up": "xyz".index(up), "front": front}
    return Clouds.from_arrays(name, **splits, source=f"{source}; {'; '.join(said)}", seed=seed, **options)


def ready(decoded: Decoded) -> Decoded:
    """Center and scale clouds to the unit sphere, and shuffle their points: evaluation takes the first ones.

    All clouds are shuffled in the same way, so that nothing depends on which others there are.
    """
    splits = {}
    for split, (points, labels) in decoded.splits.items():
        order = shuffled(points.shape[1], torch.Generator().manual_seed(text_seed("points of a cloud")))
        splits[split] = np.stack([unit_sphere(cloud[order]) for cloud in points]).astype(np.float32), labels
    return Decoded(splits, decoded.classes)


def load_shape_folder(folder: Path, root: Path) -> Decoded:
    """Load ``train``, ``test`` and perhaps ``val`` as float32 [n, 2048, 3] and int64 [n], in the order of names.

    The folder has SPLIT/<class>/, or <class>/SPLIT/ as in ModelNet's archives, or <class>/, which is then all train.
    Splits have the usual names. Classes are those of train. The files are parsed once and then kept in a cache.
    """
    shapes = list_shapes(folder)
    classes = tuple(sorted({name for split, name, _ in shapes if split == "train"}))
    for split in dict.fromkeys(split for split, _, _ in shapes):
        if lacking := {*classes} - {name for part, name, _ in shapes if part == split}:
            warn(f"{folder}: {split} has no shape of {few(sorted(lacking))}")
    first: dict[str, str] = {}  # the file of each shape, by its path without a suffix
    for split, name, file in shapes:
        if name not in classes:
            alike = told_alike(name, classes)
            raise DataError(f"{folder / file}: class {name!r} of {split} has no shape in train{alike}")
        if not file.lower().endswith(SUFFIXES):
            raise DataError(f"{folder / file}: not one of {', '.join(SUFFIXES)}; keep it outside of the classes")
        if (other := first.setdefault(os.path.splitext(file)[0], file)) != file:
            problem = f"the same shape as {os.path.basename(other)}, by its name, so it would count twice"
            raise DataError(f"{folder / file}: {problem}; keep one of them, or rename it if it is another shape")
    require_classes(folder, classes)

    def read() -> Decoded:
        watched = tracked(shapes, f"decoding {folder.name}", len(shapes), "file", always=True)
        points = np.stack([read_cloud(folder / file, POINTS, file) for _, _, file in watched])
        labels = np.array([classes.index(name) for _, name, _ in shapes])
        split_of = np.array([split for split, _, _ in shapes])
        chosen = {split: split_of == split for split in np.unique(split_of).tolist()}
        return Decoded({split: (points[rows], labels[rows]) for split, rows in chosen.items()}, classes)

    return cached(f"shapes-{POINTS}-v3", folder, [file for _, _, file in shapes], root, read)


def list_shapes(folder: Path) -> list[tuple[str, str, str]]:
    """List the split, the class and the path below ``folder`` of every shape, in the order of the splits."""
    folders = [child for child in children(folder) if child.is_dir()]
    splits = {split: path for split, path in split_folders(folder).items() if may_be_split(path, SUFFIXES)}
    inside: list[tuple[str, Path, Path]] = []  # split, class, and the folder of its shapes
    others, is_flat = list[Path](), False
    if "train" in splits:
        inside = [(split, child, child) for split in SPLITS for child in _folders(splits.get(split))]
        names = {child.name for _, child, _ in inside}
        beside = [child for child in folders if not any(map(child.samefile, splits.values()))]
        for child in beside:
            if {c.name for c in _folders(child)} & names:
                raise DataError(f"{child}: has classes of train, but is not named as a split; keep it elsewhere")
        loose = [file for split in splits.values() for file in children(split) if file.is_file()]
        ignored = [*filter(lambda child: has_file(child, CLOUDS), beside)]
        ignored += [file for file in loose if file.name.lower().endswith(CLOUDS)]
        warn_of_others(folder, [child.relative_to(folder).as_posix() for child in ignored])
    elif len(folders) > 1 and any(map(split_folders, folders)):
        found = {child: split_folders(child) for child in folders}
        inside = [(split, child, found[child][split]) for split in SPLITS for child in folders if split in found[child]]
        others = [child for child in folders if not found[child]]
        for child in others:
            if is_class(_shapes(folder, child)):
                raise DataError(f"{child}: has no train and test in it, as other classes have; keep it elsewhere")
    elif not splits:
        if lists := [child for child in children(folder) if child.name.endswith(("_train.txt", "_test.txt"))]:
            raise DataError(f"{lists[0]}: a list of a split, which folders do not have; is this modelnet40-normals?")
        inside, is_flat = [("train", child, child) for child in folders], True
    shapes_in = {path: _shapes(folder, path) for _, _, path in inside}
    if is_flat:  # a folder of documents is not a class
        shapes_in = {path: files if _has_shape(files) or is_class(files) else [] for path, files in shapes_in.items()}
    if is_flat and len(full := [path.name for path, files in shapes_in.items() if files]) > 1:
        check_no_splits(folder, full)
    shapes = [(split, child.name, path) for split, child, below in inside for path in shapes_in[below]]
    if not (is_flat and len({name for _, name, _ in shapes}) > 1):
        shapes = _with_test(folder, folders, shapes)
    if is_flat and shapes:
        warn_of_unlabeled(folder, [child.name for child in children(folder) if child.name.lower().endswith(CLOUDS)])
    empty = [path for path, files in shapes_in.items() if not files] + others
    warn_of_folders(folder, [path.relative_to(folder).as_posix() for path in empty], "a shape")
    return shapes


def _with_test(folder: Path, folders: list[Path], shapes: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """The shapes of splits, if some are to train and some to test, which is ``val`` without ``test``, as for images."""
    found = {split for split, _, _ in shapes}
    if "test" not in found:
        shapes = [("test" if split == "val" else split, name, path) for split, name, path in shapes]
    if not {"train"} < found:
        advice = f"; its data may be folder:{folders[0]}" if len(folders) == 1 else ""
        if any(child.suffix.lower() in HDF5 for child in children(folder)):
            listed = "train_files.txt, test_files.txt and shape_names.txt"
            advice = f"; HDF5 files are train.h5 and test.h5, or listed in {listed}"
        elif any(child.name.lower().endswith(CLOUDS) for child in children(folder)):
            advice = f"; if its shapes are of one class, name the folder of the classes: folder:{folder.parent}"
        layouts = "train/<class>/* and test/<class>/*, nor <class>/train/* and <class>/test/*, nor <class>/*"
        raise DataError(f"{folder}: has no {layouts} of two classes{advice}")
    return shapes


def _folders(folder: Path | None) -> list[Path]:
    return [] if folder is None else [child for child in children(folder) if child.is_dir()]


def _has_shape(files: list[str]) -> bool:
    return any(file.lower().endswith(SUFFIXES) for file in files)


def _shapes(folder: Path, inside: Path) -> list[str]:
    start = inside.relative_to(folder).as_posix()
    return [f"{start}/{file}" for file in files_below(inside) if not file.lower().endswith(MATERIALS)]

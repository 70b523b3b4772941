"""A folder of shapes by class: meshes and clouds of any size to clouds of one."""

from pathlib import Path

import numpy as np

from comhe.datasets.io.fetch import DataError, MissingDataError

from .cache import cached, counted
from .shapes import SUFFIXES, read_cloud

POINTS = 2048


def load_shape_folder(folder: Path, cache: Path) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], tuple[str, ...]]:
    """`train`, `test` and perhaps `val` as float32 [n, 2048, 3] and int64 [n], in the order of names, and the classes.

    The folder has `train/<class>/`, `test/<class>/` and perhaps `val/<class>/`, or, as ModelNet's archives,
    `<class>/train/` and so on, with files of `SUFFIXES` in them; hidden files are passed over. Classes are those of
    train. Parsed once: the clouds are then kept in the folder `cache`.

    Raises:
        MissingDataError: no such folder.
        DataError: another arrangement, a class without training shapes, a file of another kind or a damaged one.
    """
    if not folder.is_dir():
        raise MissingDataError(f"{folder}: no such folder")
    files: dict[str, list[tuple[str, str]]] = {}  # class and path by split
    by_class = not (folder / "train").is_dir()
    for split in ("train", "val", "test"):
        if by_class:
            found = [(child.name, child / split) for child in _children(folder)]
        else:
            found = [(child.name, child) for child in _children(folder / split)]
        shapes = [(name, _relative(file, folder)) for name, place in found for file in _children(place)]
        if shapes:
            files[split] = shapes
    if "train" not in files or "test" not in files:
        raise DataError(f"{folder}: has no train/<class>/* and test/<class>/*, nor <class>/train/* and <class>/test/*")
    classes = tuple(sorted({name for name, _ in files["train"]}))
    every = [(split, name, file) for split, shapes in files.items() for name, file in shapes]
    for split, name, file in every:
        if name not in classes:
            raise DataError(f"{folder / file}: class {name!r} of {split} has no shape in train")
        if not file.lower().endswith(SUFFIXES):
            raise DataError(f"{folder / file}: is none of {', '.join(SUFFIXES)}")
    paths = [file for _, _, file in every]
    points = cached(cache, folder, paths, f"shapes-1 {POINTS}", lambda: _read(folder, paths))
    splits = np.array([split for split, _, _ in every])
    labels = np.array([classes.index(name) for _, name, _ in every])
    return {split: (points[splits == split], labels[splits == split]) for split in files}, classes


def _children(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(child for child in folder.iterdir() if not child.name.startswith("."))


def _relative(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _read(folder: Path, files: list[str]) -> np.ndarray:
    clouds = np.empty((len(files), POINTS, 3), dtype=np.float32)
    for i, file in enumerate(counted(files, folder.name)):
        clouds[i] = read_cloud(folder / file, POINTS, file)
    return clouds

"""The text release of ModelNet-40, with normals: a file for each cloud, a line `x,y,z,nx,ny,nz` for each point.

A folder holds `modelnet40_train.txt` and `modelnet40_test.txt`, which name the clouds (`chair_0001`),
`modelnet40_shape_names.txt`, and the clouds as `<class>/<name>.txt`. Source: Qi, Yi, Su and Guibas, "PointNet++",
NeurIPS 2017, github.com/charlesq34/pointnet2.
"""

from pathlib import Path

import numpy as np

from comhe.datasets.io.fetch import DataError, read_bounded

from .cache import cached, counted
from .clouds import check_clouds, unit_sphere
from .h5 import read_lines
from .number_text import parse_table

MAX_BYTES = 1 << 24  # 10,000 points take 570 kB


def load_text_release(folder: Path, cache: Path) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], tuple[str, ...]]:
    """`train` and `test` as float32 [n, P, 6] and int64 [n], in the order of the lists, and the names of the classes.

    Each cloud is centred and scaled to the unit sphere, as its authors' loader does. Parsed once: the clouds are then
    kept in the folder `cache`, and are parsed again only if a file's name, size or time changes.

    Raises:
        DataError: a file is missing or damaged, or two disagree; nothing is returned or kept then.
    """
    classes = tuple(read_lines(folder / "modelnet40_shape_names.txt"))
    files, labels = {}, {}
    for split in ("train", "test"):
        listed = folder / f"modelnet40_{split}.txt"
        clouds = read_lines(listed)
        of_class = [cloud.rpartition("_")[0] for cloud in clouds]
        for number, name in enumerate(of_class):
            if name not in classes or "/" in clouds[number]:
                raise DataError(f"{listed}: line {number + 1}: {clouds[number]!r} is no cloud of a known class")
        files[split] = [f"{name}/{cloud}.txt" for name, cloud in zip(of_class, clouds, strict=True)]
        labels[split] = np.array([classes.index(name) for name in of_class])
    every = files["train"] + files["test"]
    points = cached(cache, folder, every, "text-1", lambda: _read(folder, every))
    ends = len(files["train"])
    return {"train": (points[:ends], labels["train"]), "test": (points[ends:], labels["test"])}, classes


def _read(folder: Path, files: list[str]) -> np.ndarray:
    clouds = None
    for i, file in enumerate(counted(files, folder.name)):
        path = folder / file
        points = parse_table(read_bounded(path, MAX_BYTES), path, columns=(6,))
        check_clouds(points[None], path)
        if clouds is None:
            clouds = np.empty((len(files), *points.shape), dtype=np.float32)
        if len(points) != clouds.shape[1]:
            raise DataError(f"{path}: {len(points)} points, where {folder / files[0]} has {clouds.shape[1]}")
        clouds[i] = unit_sphere(points)
    return clouds

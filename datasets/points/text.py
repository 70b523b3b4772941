"""The text release of ModelNet-40, with normals: a file for each cloud, a line ``x,y,z,nx,ny,nz`` for each point.

A folder contains ``modelnet40_train.txt`` and ``modelnet40_test.txt``, which list the clouds (``chair_0001``),
``modelnet40_shape_names.txt``, and the clouds as ``<class>/<name>.txt``.

Source: Qi, Yi, Su and Guibas, "PointNet++", NeurIPS 2017, github.com/charlesq34/pointnet2.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from comhe.datasets.io.cache import Decoded, cached
from comhe.datasets.io.files import read_bounded
from comhe.datasets.io.tables import parse_table, read_lines
from comhe.errors import DataError

from .clouds import check_clouds, unit_sphere

MAX_BYTES = 1 << 24  # 10,000 points take 570 kB


def load_text_release(folder: Path, root: Path) -> Decoded:
    """Load ``train`` and ``test`` as float32 [n, P, 6] and int64 [n], in the order of the lists.

    Each cloud is centered and scaled to the unit sphere, as the authors' loader does. The files are parsed once and
    then kept in a cache.
    """
    classes = tuple(read_lines(folder / "modelnet40_shape_names.txt"))
    files: list[str] = []
    labels: dict[str, np.ndarray] = {}
    for split in ("train", "test"):
        listed = folder / f"modelnet40_{split}.txt"
        clouds = read_lines(listed)
        names = [cloud.rpartition("_")[0] for cloud in clouds]
        for number, (name, cloud) in enumerate(zip(names, clouds, strict=True), 1):
            if name not in classes or "/" in cloud:
                raise DataError(f"{listed}: line {number}: {cloud!r} is not a cloud of a known class")
            files.append(f"{name}/{cloud}.txt")
        labels[split] = np.array([classes.index(name) for name in names])

    def build() -> Decoded:
        points, end = _read(folder, files), len(labels["train"])
        return Decoded({"train": (points[:end], labels["train"]), "test": (points[end:], labels["test"])}, classes)

    return cached("modelnet40-normals", folder, files, root, build)


def _read(folder: Path, files: list[str]) -> np.ndarray:
    clouds = np.empty((0, 0, 0))
    for i, file in enumerate(files):
        path = folder / file
        points = parse_table(read_bounded(path, MAX_BYTES), path, columns=(6,))
        check_clouds(points[None], path)
        if i == 0:
            clouds = np.empty((len(files), *points.shape), dtype=np.float32)
        if len(points) != clouds.shape[1]:
            raise DataError(f"{path}: {len(points)} points, but {folder / files[0]} has {clouds.shape[1]}")
        clouds[i] = unit_sphere(points)
    return clouds

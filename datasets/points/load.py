"""Point clouds by name: ModelNet-40, folders of shapes, and the built-in `solids`."""

import difflib
from pathlib import Path

from comhe.datasets.io.fetch import MissingDataError, data_root

from .clouds import Clouds, as_splits
from .folder import load_shape_folder
from .h5 import is_h5_layout, load_h5_layout
from .modelnet import load_modelnet40
from .solids import UP, build_solids

NAMES = ("modelnet40", "modelnet40-normals", "solids", "solids-normals")
FOLDER = "folder:"


def list_points() -> list[str]:
    """The names that `load_points` takes; `folder:PATH` stands for any folder."""
    return [*NAMES, f"{FOLDER}PATH"]


def load_points(name: str, root: str | Path | None = None) -> Clouds:
    """The clouds `name`, read from the data root (see `data_root`).

    - `modelnet40`: [n, P, 3], from the first of `modelnet40_ply_hdf5_2048` (downloaded where none is there),
      `modelnet40_hdf5_2048` and `modelnet40_hdf5_1024` in the root; y is up. As published, nothing is changed.
    - `modelnet40-normals`: [n, 10000, 6], from `modelnet40_normal_resampled` in the root; y is up.
    - `solids`, `solids-normals`: [n, 1024, 3 or 6], made in code, 2,016 to train, 504 and 1,008 to validate and test.
    - `folder:PATH`: [n, 2048, 3] of meshes and clouds in `train/<class>/` and `test/<class>/`, or in `<class>/train/`
      and `<class>/test/`; z is up, as in ModelNet's meshes. Or [n, P, 3] from HDF5 files in PointNet's layout; y is up.

    Except of HDF5 files, all clouds are centred and scaled to the unit sphere. Where the source has no validation
    part, 10 % of each class's training clouds are held out, the same ones in every run; test is what is published.

    Raises:
        ValueError: unknown name; names the nearest ones.
        MissingDataError, DataError: files are missing or damaged (both are ValueErrors).
    """
    if name in ("solids", "solids-normals"):
        splits, classes = build_solids(normals=name.endswith("-normals"))
        return Clouds(name, **splits, classes=classes, up=UP, source="built in: seeded parametric solids (MIT)")
    if name.startswith(FOLDER) and name != FOLDER:
        return _folder(name, root)
    if name not in NAMES:
        known = list_points()
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        raise ValueError(f"unknown points {name!r}; {'nearest' if near else 'known'}: {', '.join(near or known)}")
    parts, classes, folder = load_modelnet40(name, root)
    source = f"ModelNet-40, modelnet.cs.princeton.edu, as {folder}; official test, 10 % of train held out"
    return Clouds(name, **as_splits(parts, name), classes=classes, up=1, source=source)


def _folder(name: str, root: str | Path | None) -> Clouds:
    folder = Path(name.removeprefix(FOLDER)).expanduser()
    if not folder.is_dir():
        raise MissingDataError(f"{name}: no such folder")
    if is_h5_layout(folder):
        (parts, classes), up = load_h5_layout(folder), 1
    else:
        (parts, classes), up = load_shape_folder(folder, data_root(root)), 2
    held_out = "its own split" if "val" in parts else "its own test, 10 % of train held out"
    return Clouds(name, **as_splits(parts, name), classes=classes, up=up, source=f"{folder}; {held_out}")

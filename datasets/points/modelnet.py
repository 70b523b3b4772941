"""ModelNet-40 in its published forms: its folders, its downloads, and its census.

Source: Wu et al., "3D ShapeNets", CVPR 2015, modelnet.cs.princeton.edu (12,311 CAD models of 40 classes; the models
are for academic use, their copyright is their authors'); sampled by the authors of PointNet and PointNet++.
"""

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from comhe.datasets.io.cache import Decoded, cached
from comhe.datasets.io.files import fetch, missing, read_lines
from comhe.datasets.registry import register_dataset
from comhe.errors import DataError
from comhe.inputs.files import ARCHIVE_ERRORS, read_bounded
from comhe.inputs.shapes import check_clouds, unit_sphere
from comhe.inputs.tables import parse_table
from comhe.progress import tracked

from .clouds import Clouds
from .folder import build, load_shape_folder
from .hdf5 import is_h5_folder, load_h5_folder

CLASSES = 40
# Train and test; the published HDF5 files lack three training clouds of the official split.
CENSUS = ((9843, 2468), (9840, 2468))
CENSUS10 = (3991, 908, 10)
MODELNET10 = "http://3dvision.princeton.edu/projects/2014/3DShapeNets/ModelNet10.zip"
HOST = "https://shapenet.cs.stanford.edu/media"


@dataclass(frozen=True)
class Release:
    """A published archive that contains one folder."""

    folder: str
    mirrors: tuple[str, ...]
    sha256: str
    max_bytes: int


HDF5 = Release(
    "modelnet40_ply_hdf5_2048",
    (
        f"{HOST}/modelnet40_ply_hdf5_2048.zip",
        "https://github.com/ma-xu/pointMLP-pytorch/releases/download/Modenet40_dataset/modelnet40_ply_hdf5_2048.zip",
        "https://huggingface.co/datasets/Msun/modelnet40/resolve/main/modelnet40_ply_hdf5_2048.zip",
    ),
    # As TensorFlow Graphics declares it (435,212,151 bytes); not computed here.
    "07670e237db72ece0f723b9abb571534c9ad655a6456b389646587dc72bb8bae",
    436_000_000,
)
TEXT = "modelnet40_normal_resampled"
# The first of these that exists is read. The others are samplings of all 9,843 training models in the same layout.
FOLDERS = (HDF5.folder, "modelnet40_hdf5_2048", "modelnet40_hdf5_1024")
FRONT = "-z"  # of the HDF5 files: 99.7 % of chairs and 94 % of beds have their back at +z, but sofas at -x
MAX_BYTES = 1 << 24  # of a cloud in the text release; 10,000 points take 570 kB
MAX_UNPACKED = 1 << 30  # the published archive unpacks to half of it
MEMBER = r"(ply_data_(train|test)[0-9]+\.h5|(train|test)_files\.txt|shape_names\.txt)"


def load_modelnet40(root: Path) -> Clouds:
    """Load the HDF5 files, after downloading them if none are there."""
    folder = next((root / known for known in FOLDERS if is_h5_folder(root / known)), root / HDF5.folder)
    if not is_h5_folder(folder):
        _download(HDF5, root)
    return _checked("modelnet40", folder, load_h5_folder(folder), FRONT)


def load_modelnet40_normals(root: Path) -> Clouds:
    """Load the text release, which is never downloaded: no checksum could tell it from another file."""
    folder = root / TEXT
    if not folder.is_dir():
        raise missing(f"modelnet40-normals: no {TEXT} in {root}, and it is not downloaded because no checksum of it is "
                      f"known: unpack {HOST}/{TEXT}.zip there")  # fmt: skip
    return _checked("modelnet40-normals", folder, load_text_release(folder, root))


def load_modelnet10(root: Path) -> Clouds:
    """Load the meshes, which are never downloaded: no checksum of the archive is known."""
    folder = root / "ModelNet10"
    if not folder.is_dir():
        reason = "it is not downloaded because no checksum of it is known"
        raise missing(f"modelnet10: no ModelNet10 in {root}, and {reason}: unpack {MODELNET10} there")
    decoded = load_shape_folder(folder, root)
    sizes = tuple(len(decoded.splits[split][1]) for split in ("train", "test"))
    if (*sizes, len(decoded.classes)) != CENSUS10:
        found = f"{sizes[0]:,} + {sizes[1]:,} shapes of {len(decoded.classes)} classes"
        raise DataError(f"{folder}: not ModelNet-10: {found}, not 3,991 + 908 of 10; use folder:{folder}")
    return build("modelnet10", "ModelNet-10, modelnet.cs.princeton.edu, points drawn from its meshes", decoded, "z")


_LICENSE = "for academic research; the models are their authors', the labels are given freely"
for _name, _load_set, _about in (
    ("modelnet40", load_modelnet40, "clouds of 2,048 points of 12,311 CAD models, 40 classes"),
    ("modelnet10", load_modelnet10, "clouds of 2,048 points of 4,899 CAD models, 10 classes"),
    ("modelnet40-normals", load_modelnet40_normals, "clouds of 10,000 points with normals of CAD models, 40 classes"),
):
    register_dataset(_name, "points", _load_set, license=_LICENSE, about=_about)


def _checked(name: str, folder: Path, decoded: Decoded, front: str = "") -> Clouds:
    """Build the set if its census is ModelNet-40's."""
    train, test = (decoded.splits[split][1] for split in ("train", "test"))
    present = len(np.unique(train)), len(np.unique(test)), len(decoded.classes)
    if (len(train), len(test)) not in CENSUS or present != (CLASSES,) * 3:
        expected = " or ".join(f"{a:,} + {b:,}" for a, b in CENSUS)
        found = f"{len(train):,} + {len(test):,} clouds of {present[2]} classes"
        raise DataError(f"{folder}: not ModelNet-40: {found}, not {expected} of {CLASSES}; use folder:{folder}")
    source = f"ModelNet-40, modelnet.cs.princeton.edu, as {folder.name}; official test, 10 % of train held out"
    return Clouds.from_arrays(name, **decoded.splits, classes=decoded.classes, up=1, source=source, front=front)


def load_text_release(folder: Path, root: Path) -> Decoded:
    """Load ``train`` and ``test`` as float32 [n, P, 6] and int64 [n], in the order of the lists.

    ``modelnet40_train.txt`` and ``modelnet40_test.txt`` list the clouds, which are <class>/<name>.txt. Each is centered
    and scaled to the unit sphere, as the authors' loader does. The files are parsed once and then kept in a cache.
    """
    classes, files = tuple(read_lines(folder / "modelnet40_shape_names.txt")), list[str]()
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
    for i, file in enumerate(tracked(files, f"decoding {folder.name}", len(files), "file", always=True)):
        path = folder / file
        points = parse_table(read_bounded(path, MAX_BYTES), path, columns=(6,))
        check_clouds(points[None], path)
        if i == 0:
            clouds = np.empty((len(files), *points.shape), dtype=np.float32)
        if len(points) != clouds.shape[1]:
            raise DataError(f"{path}: {len(points)} points, but {folder / files[0]} has {clouds.shape[1]}")
        clouds[i] = unit_sphere(points)
    return clouds


def _download(release: Release, root: Path) -> None:
    """Unpack the release's folder in ``root``, from the archive, which is downloaded unless it lies there."""
    folder, archive = root / release.folder, root / f"{release.folder}.zip"
    if is_h5_folder(folder):  # another process has unpacked it
        return
    if folder.exists():
        raise DataError(f"{folder}: lacks train_files.txt or shape_names.txt; remove it to download it again")
    fetched = not archive.exists()
    try:
        if fetched:
            lacking = f"modelnet40: {root} has none of {', '.join(FOLDERS)} and no {archive.name}"
            fetch(archive, release.mirrors, release.sha256, release.max_bytes, lacking)
        else:
            with archive.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            if sha256 != release.sha256:
                raise DataError(f"{archive}: sha256 is {sha256[:12]}..., not {release.sha256[:12]}...; remove it")
        _unpack(archive, folder)
    except (DataError, OSError):
        if not is_h5_folder(folder):  # another process may have unpacked it, and removed the archive
            raise
    finally:
        if fetched and is_h5_folder(folder):
            archive.unlink(missing_ok=True)


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack the files of the layout into a folder that gets its name only when it is complete."""
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        with zipfile.ZipFile(archive) as members:
            wanted = [m for m in members.infolist() if re.fullmatch(f"{folder.name}/{MEMBER}", m.filename)]
            # A member never yields more bytes than it claims.
            if sum(member.file_size for member in wanted) > MAX_UNPACKED:
                raise DataError(f"{archive}: unpacks to more than {MAX_UNPACKED:,} bytes")
            for member in wanted:
                with members.open(member) as source, (partial / Path(member.filename).name).open("wb") as target:
                    shutil.copyfileobj(source, target)
        if not is_h5_folder(partial):
            raise DataError(f"{archive}: contains no {folder.name}/train_files.txt and shape_names.txt")
        os.chmod(partial, 0o755)  # mkdtemp gives 0700, which a shared data folder cannot use
        os.replace(partial, folder)
    except DataError:
        raise
    except ARCHIVE_ERRORS as error:
        raise DataError(f"{archive}: cannot be unpacked ({str(error)[:200]})") from error
    finally:
        with contextlib.suppress(FileNotFoundError):  # renamed
            shutil.rmtree(partial)

"""ModelNet-40 in its published forms: which folders hold it, where it comes from, and what its census has to be.

Source: Wu et al., "3D ShapeNets", CVPR 2015, modelnet.cs.princeton.edu (12,311 CAD models of 40 classes; the models
are for academic use, their copyright is their authors'); sampled by the authors of PointNet and PointNet++.
"""

import contextlib
import hashlib
import os
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from comhe.datasets.io.fetch import DataError, MissingDataError, data_root, fetch

from .h5 import is_h5_layout, load_h5_layout
from .text import load_text_release

CLASSES = 40
# Train and test; the published HDF5 files lack three training clouds of the official split.
CENSUS = ((9843, 2468), (9840, 2468))
HOST = "https://shapenet.cs.stanford.edu/media"


@dataclass(frozen=True)
class Release:
    """A published archive that holds one folder.

    Without a `sha256` it is never downloaded: nothing could tell the published file from another one.
    """

    folder: str
    mirrors: tuple[str, ...]
    sha256: str | None
    max_bytes: int


HDF5 = Release(
    "modelnet40_ply_hdf5_2048",
    (
        f"{HOST}/modelnet40_ply_hdf5_2048.zip",
        "https://github.com/ma-xu/pointMLP-pytorch/releases/download/Modenet40_dataset/modelnet40_ply_hdf5_2048.zip",
        "https://huggingface.co/datasets/Msun/modelnet40/resolve/main/modelnet40_ply_hdf5_2048.zip",
    ),
    # As TensorFlow Graphics declares it (435,212,151 bytes), not computed here.
    "07670e237db72ece0f723b9abb571534c9ad655a6456b389646587dc72bb8bae",
    436_000_000,
)
TEXT = Release("modelnet40_normal_resampled", (f"{HOST}/modelnet40_normal_resampled.zip",), None, 0)
# The first of these that is there is read. The others are samplings of all 9,843 training models in the same layout.
FOLDERS = (HDF5.folder, "modelnet40_hdf5_2048", "modelnet40_hdf5_1024")
MAX_UNPACKED = 1 << 30  # the published archive unpacks to half of it
MEMBER = re.compile(r"(ply_data_(train|test)[0-9]+\.h5|(train|test)_files\.txt|shape_names\.txt)")

Parts = dict[str, tuple[np.ndarray, np.ndarray]]


def load_modelnet40(name: str, root: str | Path | None = None) -> tuple[Parts, tuple[str, ...], str]:
    """`train` and `test` of `modelnet40` or `modelnet40-normals`, the names of the classes, and the folder's name.

    Raises:
        MissingDataError: the set is not in the data root and cannot be downloaded.
        DataError: a file is damaged, or the files are not those of this set.
    """
    root = data_root(root)
    if name == "modelnet40-normals":
        folder = root / TEXT.folder
        if not folder.is_dir():
            raise MissingDataError(
                f"{name}: no {TEXT.folder} in {root}; it is not downloaded, since no checksum of it is known for "
                f"certain: unpack {TEXT.mirrors[0]} there yourself, or name the folder that holds it with --data-root "
                "or $COMHE_DATA"
            )
        parts, classes = load_text_release(folder, root)
    else:
        folder = next((root / known for known in FOLDERS if is_h5_layout(root / known)), root / HDF5.folder)
        if not is_h5_layout(folder):
            _download(name, HDF5, root)
        parts, classes = load_h5_layout(folder)
    census = len(parts["train"][1]), len(parts["test"][1])
    present = tuple(len(np.unique(labels)) for _, labels in parts.values())
    if census not in CENSUS or len(classes) != CLASSES or present != (CLASSES, CLASSES):
        expected = " or ".join(f"{train:,} + {test:,}" for train, test in CENSUS)
        raise DataError(
            f"{folder}: not ModelNet-40: {census[0]:,} + {census[1]:,} clouds of {len(classes)} classes, not "
            f"{expected} of {CLASSES}; a folder of your own is read as folder:{folder}"
        )
    return parts, classes, folder.name


def _download(name: str, release: Release, root: Path) -> None:
    """The release's folder in `root`: unpacked from the archive, which is downloaded unless it lies there."""
    folder, archive = root / release.folder, root / f"{release.folder}.zip"
    fetched = not archive.exists()
    try:
        if folder.exists():
            raise DataError(f"{folder} lacks train_files.txt or shape_names.txt")
        if fetched:
            fetch(archive, release.mirrors, release.sha256, release.max_bytes)
        else:
            _check(archive, release)
        _unpack(archive, folder)
    except (DataError, OSError) as error:
        if is_h5_layout(folder):  # another process has made it meanwhile, and perhaps removed the archive
            return
        raise MissingDataError(
            f"{name}: none of {', '.join(FOLDERS)} in {root}; put one or {archive.name} there, or name the folder that "
            f"holds it with --data-root or $COMHE_DATA ({error})"
        ) from error
    finally:
        if fetched and is_h5_layout(folder):
            archive.unlink(missing_ok=True)


def _check(archive: Path, release: Release) -> None:
    with archive.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != release.sha256:
        raise DataError(f"{archive}: sha256 is {sha256[:12]}..., not {release.sha256[:12]}...; remove it")


def _unpack(archive: Path, folder: Path) -> None:
    """The files of the layout, in a folder that takes its name only when it is complete."""
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        with zipfile.ZipFile(archive) as members:
            wanted = {}
            for member in members.infolist():
                path = PurePosixPath(member.filename)
                if path.parts[:-1] == (folder.name,) and MEMBER.fullmatch(path.name):
                    wanted[path.name] = member
            # No member gives more than the size it claims.
            if sum(member.file_size for member in wanted.values()) > MAX_UNPACKED:
                raise DataError(f"{archive}: unpacks to more than {MAX_UNPACKED:,} bytes")
            for name, member in wanted.items():
                with members.open(member) as source, (partial / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
        if not is_h5_layout(partial):
            raise DataError(f"{archive}: holds no {folder.name}/train_files.txt and shape_names.txt")
        os.chmod(partial, 0o755)  # mkdtemp gives 0700, which a shared data folder cannot use
        os.replace(partial, folder)
    except DataError:
        raise
    # RuntimeError: an encrypted member or an unknown compression; OSError: a place before the file's beginning.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, struct.error) as error:
        raise DataError(f"{archive}: cannot be unpacked ({str(error)[:200]})") from error
    finally:
        with contextlib.suppress(FileNotFoundError):  # renamed
            shutil.rmtree(partial)

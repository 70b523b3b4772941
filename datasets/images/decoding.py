"""Image files: trees SPLIT/CLASS/FILE, and their pixels, one at a time or in batches by worker processes.

Hidden files and Thumbs.db, which file managers leave behind, are ignored. Anything else that does not belong in such a
tree is an error that names it, because a wrong set is worse than none.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from comhe.datasets.io.cache import Decoded, Splits
from comhe.datasets.io.files import MissingDataError
from comhe.datasets.sampling import mixed_seed
from comhe.errors import DataError

EXTENSIONS = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # by content: ImageNet has a PNG file named .JPEG
MAX_PIXELS = 1 << 26  # of one image; decoding takes up to 16 bytes for each
GRACE = 10  # seconds that worker processes outlive SIGTERM
FEW = 2000  # files that are decoded before worker processes would have started


@dataclass(frozen=True)
class Tree:
    """The files of a tree: for each split the paths below ``folder``, bytes [n] by class and name, and int64 labels."""

    folder: Path
    classes: tuple[str, ...]
    splits: Splits

    def __len__(self) -> int:
        return sum(len(paths) for paths, _ in self.splits.values())

    @property
    def files(self) -> list[str]:
        return [os.fsdecode(path) for paths, _ in self.splits.values() for path in paths]

    def path(self, name: bytes) -> str:
        return os.path.join(self.folder, os.fsdecode(name))


def list_tree(folder: Path, splits: tuple[str, ...] = ("train", "val", "test")) -> Tree:
    """List the tree in ``folder``; ``val`` is the test split if there is no ``test`` (ImageNet's convention)."""
    present = [split for split in splits if (folder / split).is_dir()]
    if "train" not in present or len(present) == 1:
        lacks = "train" if "train" not in present else " or ".join(splits[1:])
        raise MissingDataError(f"{folder}: has no folder {lacks}; images belong in {folder}/SPLIT/CLASS/")
    classes = tuple(_entries(folder / "train", folders=True))
    if not classes:
        raise DataError(f"{folder}/train: contains no class folder")
    found = {split: _list_split(folder, split, classes) for split in present}
    if "test" not in found:
        found["test"] = found.pop("val")
    return Tree(folder, classes, found)


def _list_split(folder: Path, split: str, classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    found = set(_entries(folder / split, folders=True))
    if unknown := sorted(found - set(classes)):
        raise DataError(f"{folder / split / unknown[0]}: this class is missing from {folder}/train")
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
                raise DataError(f"{entry.path}: not a folder; a split has one folder for each class")
            if not folders and os.path.splitext(entry.name)[1].lower() not in EXTENSIONS:
                raise DataError(f"{entry.path}: not an image file ({' '.join(sorted(EXTENSIONS))}); remove it")
            if not folders and not entry.is_file():
                raise DataError(f"{entry.path}: not a file")
            result.append(entry.name)
    return sorted(result)


def decode_tree(tree: Tree, size: tuple[int, int], workers: int) -> Decoded:
    """Decode all images of a tree, which must have one size (width, height)."""
    splits, workers = {}, workers if len(tree) > FEW else 0
    for split, (paths, labels) in tree.splits.items():
        pixels, done = np.empty((len(paths), size[1], size[0], 3), dtype=np.uint8), 0
        batches = torch.arange(len(paths)).split(512)
        for batch in read_images(tree.folder, paths, batches, workers, partial(_require_size, size)):
            pixels[done : done + len(batch)] = batch.numpy()
            done += len(batch)
        splits[split] = pixels, labels
    return Decoded(splits, tree.classes)


def decode(path: str) -> Image.Image:
    """Decode a file to RGB: gray is repeated, 16 bits become 8, transparent regions lie on white.

    The orientation that a camera noted is not applied, as in torchvision. Of several frames the first one is used.
    """
    with _opened(path) as image:
        if image.mode in ("I", "F"):
            raise DataError(f"has 32 bits a pixel (mode {image.mode}) of an unknown range")
        if image.mode.startswith("I;16"):  # convert() would cut off at 255
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            white.alpha_composite(image.convert("RGBA"))
            image = white
        return image.convert("RGB")


def read_images(
    folder: Path, paths: np.ndarray, batches: tuple[Tensor, ...], workers: int,
    transform: Callable[[Image.Image], Image.Image], seeds: tuple[int, int] | None = None, pin: bool = False,
) -> Iterator[Tensor]:  # fmt: skip
    """Iterate over batches of transformed images, uint8 [b, h, w, 3], read and decoded by worker processes.

    What the transform draws from torch's global generator is a function of ``seeds`` (seed and epoch) and of the
    sample's number, and the generator is left as it was; so the number of workers changes nothing.
    """
    loader = DataLoader(
        _Samples(folder, paths, transform, seeds), batch_sampler=[batch.tolist() for batch in batches],
        num_workers=workers, collate_fn=_stack, pin_memory=pin, worker_init_fn=_outlive_signals,
        generator=torch.Generator().manual_seed(0),  # or the loader would draw from the global one
    )  # fmt: skip
    for batch in loader:
        if isinstance(batch, DataError):
            raise batch
        yield batch


def _outlive_signals(worker: int) -> None:
    """A signal to the process group is for the main process, which may need some more batches before it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):  # not on Windows
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


@dataclass
class _Samples(Dataset):
    folder: Path
    paths: np.ndarray
    transform: Callable[[Image.Image], Image.Image]
    seeds: tuple[int, int] | None

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
    return errors[0] if errors else torch.stack([sample for sample in samples if isinstance(sample, Tensor)])


def _require_size(size: tuple[int, int], image: Image.Image) -> Image.Image:
    """A transform that changes nothing and accepts only one size."""
    if image.size != size:
        found, wanted = ("x".join(map(str, sides)) for sides in (image.size, size))
        raise ValueError(f"has {found} pixels, but the set's images have {wanted}")
    return image


def image_size(path: str) -> tuple[int, int]:
    """Return width and height without decoding."""
    with _opened(path) as image:
        return image.size


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:  # before they are decoded
                raise DataError(f"claims {image.width} x {image.height} pixels, more than {MAX_PIXELS:,}")
            yield image
    except Exception as error:  # Pillow's decoders raise whatever the damage makes them raise
        reason = " ".join(str(error).replace(repr(path), "it").split()) or type(error).__name__
        raise DataError(f"{path}: cannot be decoded ({reason})") from error

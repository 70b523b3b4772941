"""Image files to pixels, one at a time or in batches by worker processes."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from comhe.datasets.io.cache import Decoded
from comhe.datasets.sampling import mixed_seed
from comhe.errors import DataError
from comhe.inputs.pixels import decode, fit
from comhe.progress import tracked

from .tree import Tree

GRACE = 10  # seconds that worker processes outlive SIGTERM
FEW = 2000  # files that are decoded before worker processes would have started


def decode_tree(tree: Tree, size: tuple[int, int], workers: int, resized: bool = False) -> Decoded:
    """Decode all images of a tree, which must have one size (width, height), or are ``resized`` by :func:`fit`."""
    transform: Any = partial(fit if resized else _require_size, size=size)
    splits, workers = {}, workers if len(tree) > FEW else 0
    for split, (paths, labels) in tree.splits.items():
        pixels, done = np.empty((len(paths), size[1], size[0], 3), dtype=np.uint8), 0
        batches = torch.arange(len(paths)).split(512)
        images = read_images(tree.folder, paths, batches, workers, transform)
        for batch in tracked(images, f"decoding {tree.folder.name} {split}", len(paths), "file", len, always=True):
            pixels[done : done + len(batch)] = batch.numpy()
            done += len(batch)
        splits[split] = pixels, labels
    return Decoded(splits, tree.classes)


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


def _require_size(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A transform that changes nothing and accepts only one size."""
    if image.size != size:
        found, wanted = ("x".join(map(str, sides)) for sides in (image.size, size))
        raise ValueError(f"has {found} pixels, but the set's images have {wanted}")
    return image

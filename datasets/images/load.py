"""Image sets by name: CIFAR-10, CIFAR-100, ImageNet, folders of images, and the built-in `glyphs`."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from comhe.datasets.graphs.citation import shuffled
from comhe.datasets.io.fetch import DataError, MissingDataError, data_root

from .augment import Augmentation, ResizedCrop
from .cache import Decoded, cached, fingerprint
from .cifar import SETS, load_cifar
from .folder import Tree, decode_tree, list_tree, resident_size, stats
from .glyphs import build_glyphs
from .sets import Files, ImageFiles, Images, Split

# Share of each class that is held out of the training images, to validate on.
HELD_OUT = {"cifar10": 0.1, "cifar100": 0.1, "folder": 0.1, "glyphs": 0.2, "imagenet": 0.01}
SEED = 1_906_048_920  # of the standard split; no -random<seed> reaches it, so no split has two names
IMAGENET = (1000, 1_281_167, 50_000)  # classes, images to train, images to test
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_NAME = re.compile(r"(?P<base>[a-z0-9]+)(-random(?P<seed>0|[1-9][0-9]{0,8}))?(:(?P<path>.+))?", re.DOTALL)


def list_images() -> list[str]:
    """The names that `load_images` takes. Any other seed may stand in place of the 0 of `-random0`."""
    names = [f"{base}{split}" for base in sorted(HELD_OUT) for split in ("", "-random0")]
    return [f"{name}:PATH" if name.startswith("folder") else name for name in names]


def load_images(name: str, root: str | Path | None = None, workers: int | None = None) -> Images | ImageFiles:
    """The image set `name`, read from the data root (see `data_root`).

    Names:
        `cifar10`, `cifar100`: ROOT/cifar-100-python.tar.gz as published, downloaded where it is missing, or image
            files ROOT/cifar100/{train,test}/<class>/*.
        `glyphs`: letters and digits, made in code; needs no file.
        `imagenet`: ILSVRC 2012 as ROOT/imagenet/{train,val}/<class>/*; its `val` is the test split.
        `folder:PATH`: PATH/{train,val,test}/<class>/*; a `val` without `test` is the test split.

    Small images of one size come as `Images`, in memory, others as `ImageFiles` (see `resident_size` for the rule).
    Where a set has no validation images, a tenth of each class is held out of its training images (a fifth in
    `glyphs`, a hundredth in `imagenet`), the same ones every time; with `-random<seed>`, as in `cifar100-random3` and
    `folder-random3:PATH`, they are drawn anew from a generator with that seed.

    Args:
        workers: processes that decode files; None for one for each processor.

    Raises:
        ValueError: unknown name; names the nearest ones.
        MissingDataError, DataError: files are missing, damaged or do not belong there (both are ValueErrors).
    Warns:
        AlteredDataWarning: an archive is not the published one.
    """
    match = _NAME.fullmatch(name)
    base = match["base"] if match else None
    if base not in HELD_OUT or (base == "folder") != (match["path"] is not None):
        known = list_images()
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        raise ValueError(f"unknown images {name!r}; {'nearest' if near else 'known'}: {', '.join(near or known)}")
    workers = (os.cpu_count() or 1) if workers is None else workers
    seed = None if match["seed"] is None else int(match["seed"])
    if base == "glyphs":
        source = "built in: Pillow's font under seeded distortions (MIT)"
        return _resident(name, base, build_glyphs(), source, seed, Augmentation(flip=False))
    if base in SETS:
        return _resident(name, base, *load_cifar(base, root, workers), seed)
    if base == "imagenet":
        return _files(name, base, imagenet_tree(data_root(root) / base), "ILSVRC 2012, image-net.org", seed, workers)
    folder = Path(match["path"]).expanduser()
    tree = list_tree(folder)
    size = resident_size(tree)
    if size is None:
        return _files(name, base, tree, "image files", seed, workers)
    mark = fingerprint(stats(tree))
    decoded = cached(base, folder, mark, root, lambda: decode_tree(tree, size, name, workers))
    return _resident(name, base, decoded, "image files", seed)


def imagenet_tree(folder: Path) -> Tree:
    """The files of ILSVRC 2012, and not some of them: a subset is another set, `folder:PATH`."""
    if not folder.is_dir():
        raise MissingDataError(
            f"imagenet: {folder} does not exist; put train/CLASS/ and val/CLASS/ of ILSVRC 2012 there, or name the "
            "folder that holds imagenet/ with --data-root or $COMHE_DATA"
        )
    tree = list_tree(folder, ("train", "val"))
    census = (len(tree.classes), *(len(tree.parts[part][1]) for part in ("train", "test")))
    if census != IMAGENET:
        raise DataError(
            f"{folder}: not imagenet: {census} classes, images to train and to test, not {IMAGENET}; "
            f"a part of it is folder:{folder}"
        )
    return tree


def hold_out(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sample numbers to train and to validate on, both sorted: `share` of each class, at least one, validate."""
    order = shuffled(len(labels), torch.Generator().manual_seed(seed))
    # A stable sort by class keeps the shuffled order within each.
    order = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    held = rank < np.repeat(np.maximum(1, np.floor(share * counts + 0.5)), counts)
    return np.sort(order[~held]), np.sort(order[held])


Parts = dict[str, tuple[np.ndarray, np.ndarray]]


def _resident(
    name: str, base: str, decoded: Decoded, source: str, seed: int | None, augmentation: Augmentation | None = None
) -> Images:
    arrays, split = _divided(name, base, decoded.classes, decoded.parts, seed)
    parts = {part: Split(*map(torch.from_numpy, both)) for part, both in arrays.items()}
    mean, std = _moments(parts["train"].pixels)
    source = f"{source}; {split}"
    return Images(
        name,
        **parts,
        classes=decoded.classes,
        mean=mean,
        std=std,
        source=source,
        augmentation=augmentation or Augmentation(),
    )


def _files(name: str, base: str, tree: Tree, source: str, seed: int | None, workers: int) -> ImageFiles:
    arrays, split = _divided(name, base, tree.classes, tree.parts, seed)
    parts = {part: Files(tree.folder, paths, torch.from_numpy(labels)) for part, (paths, labels) in arrays.items()}
    return ImageFiles(
        name,
        **parts,
        classes=tree.classes,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        source=f"{source}; {split}",
        augmentation=ResizedCrop(),
        workers=workers,
    )


def _divided(name: str, base: str, classes: tuple[str, ...], parts: Parts, seed: int | None) -> tuple[Parts, str]:
    """The parts with images to validate on, and in words where these come from."""
    if "val" in parts:
        if seed is not None:
            raise ValueError(f"{name!r} has its own validation images, so none are drawn: leave out -random{seed}")
        return parts, "its own validation images"
    data, labels = parts["train"]
    if (counts := np.bincount(labels)).min() < 2:
        raise DataError(f"{name}: class {classes[counts.argmin()]!r} has one training image, so none can be held out")
    share = HELD_OUT[base]
    train, val = hold_out(labels, share, SEED if seed is None else seed)
    drawn = "" if seed is None else f", seed {seed}"
    divided = parts | {"train": (data[train], labels[train]), "val": (data[val], labels[val])}
    return divided, f"{share:.0%} of each class of train held out to validate{drawn}"


def _moments(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel on the scale 0..1, from sums that are exact, so in any order."""
    sums, squares = torch.zeros(2, pixels.shape[2], 3, dtype=torch.float64, device=pixels.device)
    for part in pixels.flatten(0, 1).split(1 << 14):
        part = part.double()
        sums += part.sum(0)
        squares += part.square_().sum(0)
    count = pixels[..., 0].numel()
    mean = sums.sum(0) / count
    std = (squares.sum(0) / count - mean * mean).clamp_min(0).sqrt()
    # A constant channel has no spread to divide by.
    return tuple((mean / 255).tolist()), tuple((std.where(std > 0, 1.0) / 255).tolist())

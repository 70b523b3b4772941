"""Which nodes train, validate and test: drawn from a seed, or as masks and lists of numbers say."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from comhe.datasets.sampling import hold_out, shuffled
from comhe.errors import DataError, warn

from .fields import as_vector

PER_CLASS, VALIDATION, TEST = 20, 500, 1000  # nodes of a random split of a citation network
HELD_OUT = 0.2  # of each class, to validate and again to test, in a random split of any other graph
SPLITS = ("train", "val", "test")
Split = tuple[np.ndarray, np.ndarray, np.ndarray]


def random_split(labels: np.ndarray, labeled: np.ndarray, seed: int) -> Split:
    """Draw 20 nodes of each class to train, 500 others to validate and 1000 others to test, among the labeled nodes."""
    order = shuffled(len(labels), torch.Generator().manual_seed(seed))
    order = order[labeled[order]]
    train = np.concatenate([order[labels[order] == label][:PER_CLASS] for label in range(labels.max() + 1)])
    rest = order[~np.isin(order, train)]
    if len(train) != PER_CLASS * (labels.max() + 1) or len(rest) < VALIDATION + TEST:
        raise DataError(f"{len(order)} labeled nodes are too few for {PER_CLASS} a class, {VALIDATION} and {TEST}")
    return np.sort(train), np.sort(rest[:VALIDATION]), np.sort(rest[VALIDATION : VALIDATION + TEST])


def fractional_split(labels: np.ndarray, seed: int, name: str) -> Split:
    """Draw 60 % of each class's labeled nodes to train, and 20 % each to validate and to test; -1 is no label."""
    nodes = np.flatnonzero(labels >= 0)
    kept, test = (nodes[rows] for rows in hold_out(labels[nodes], HELD_OUT, seed))
    train, val = (kept[rows] for rows in hold_out(labels[kept], HELD_OUT / (1 - HELD_OUT), seed))
    if not (len(test) and len(val)):
        raise DataError(f"{name}: no class has three labeled nodes, so none can be held out to validate and to test")
    return train, val, test


def read_split(
    given: Mapping[str, Any], labels: np.ndarray, seed: int | None, name: str, number: int | None = None
) -> tuple[Split, str]:
    """Return the split that masks or node numbers give, or one drawn from ``seed``, and what it is in words.

    Without any mask the seed is 0. Of several splits, masks [n, k] or [k, n], that with the ``number`` is taken, or the
    first, with a warning. A ``val`` without ``test`` is the test split, and a tenth of each class is held out of train
    to validate, as in folders of images.
    """
    masks = {split: _mask(given[split], len(labels), f"{name}: {split}") for split in SPLITS if split in given}
    if seed is not None or (not masks and number is None):
        return fractional_split(labels, seed or 0, name), f"random{seed or 0} split of 60, 20 and 20 % of each class"
    words = [f"its own split{_number(masks, number, name)}"]
    nodes = {
        split: _nodes(mask[min(number or 0, len(mask) - 1)], len(labels), f"{name}: {split}")
        for split, mask in masks.items()
    }
    if "test" not in nodes and "val" in nodes:
        nodes["test"] = nodes.pop("val")
        words.append("its val tests")
    if missing := [split for split in ("train", "test") if split not in nodes]:
        raise DataError(f"{name}: has a split without {' and '.join(missing)}; give all three, or none")
    for split, each in nodes.items():
        if unlabeled := int((labels[each] < 0).sum()):
            raise DataError(f"{name}: {unlabeled} of the {len(each)} nodes of {split} have no label; leave them out")
    if "val" not in nodes:
        kept, held = hold_out(labels[nodes["train"]], 0.1, 0)
        nodes["train"], nodes["val"] = nodes["train"][kept], nodes["train"][held]
        words.append("10 % of train held out")
    if empty := [split for split in SPLITS if not len(nodes[split])]:
        raise DataError(f"{name}: {' and '.join(empty)} has no nodes; give other masks, or none for a random split")
    return (nodes["train"], nodes["val"], nodes["test"]), ", ".join(words)


def _number(masks: Mapping[str, list[np.ndarray]], number: int | None, name: str) -> str:
    """Return which of several splits it is, in words; masks that are one may be shared by all splits."""
    counts = sorted({len(mask) for mask in masks.values()} - {1})
    if len(counts) > 1:
        raise DataError(f"{name}: its masks are of {' and of '.join(map(str, counts))} splits")
    count = counts[0] if counts else 1
    if number is not None and number >= (count if masks else 0):
        found = f"the splits 0 to {count - 1}, but not {number}" if masks else f"no split, so none of number {number}"
        raise DataError(f"{name}: has {found}")
    if count == 1:
        return ""
    if number is None:
        option = f"{name.partition(':')[0]}-split1:PATH" if ":" in name else "split=1"
        warn(f"{name}: has {count} splits, of which the first is used; {option} is the second")
    return f", number {number or 0} of 0..{count - 1}"


def _mask(mask: np.ndarray, count: int, what: str) -> list[np.ndarray]:
    """Return each split of a mask [n], [n, k] or [k, n], or of node numbers, as a row."""
    mask = np.asarray(mask)
    if mask.ndim == 2 and mask.shape[0] == count and mask.shape[1]:
        return list(mask.T)
    if mask.ndim == 2 and mask.shape[1] == count and len(mask):
        return list(mask)
    mask = as_vector(mask)
    if mask.ndim != 1 or mask.dtype.kind not in "biu":
        raise DataError(f"{what} is {mask.dtype} {list(mask.shape)}, neither a mask bool [{count}] nor node numbers")
    return [mask]


def _nodes(mask: np.ndarray, count: int, what: str) -> np.ndarray:
    """Turn a mask [n], or node numbers, into sorted node numbers."""
    if mask.dtype.kind == "b" and len(mask) == count:
        return np.flatnonzero(mask)
    if mask.dtype.kind not in "iu":
        raise DataError(f"{what} is {mask.dtype} {list(mask.shape)}, neither a mask bool [{count}] nor node numbers")
    if len(mask) == count > 2 and mask.min() >= 0 and mask.max() <= 1:
        return np.flatnonzero(mask)  # a mask of zeros and ones
    if len(mask) and not 0 <= mask.min() <= mask.max() < count:
        wrong = mask.max() if mask.min() >= 0 else mask.min()
        raise DataError(f"{what} has the node {wrong}, which is not one of 0..{count - 1}")
    return np.unique(mask).astype(np.int64)

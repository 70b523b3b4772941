"""Training with few labels, or with wrong ones."""

from numbers import Integral, Real
from typing import Any

import numpy as np

from comhe.errors import UsageError
from comhe.inputs.files import text_seed

from .sampling import by_class


def draw_labels(
    labels: Any, num_classes: int, per_class: int = 0, noise: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw ``per_class`` samples of each class (0: keep all), and give a share ``noise`` of them another class.

    Both draws depend on labels, arguments and seed alone. With the same seed, fewer samples are among the more.

    Args:
        labels: int [n], in 0..num_classes-1; a class that has no label at all stays without one.
        noise: round(noise * count) of the ``count`` drawn labels become one of the other classes, each as likely.

    Returns:
        The sorted numbers of the samples, int64 [count], and their labels, int64 [count].

    Raises:
        UsageError: a class has fewer than ``per_class`` samples, or a number is out of range.

    Example:
        >>> rows, labels = draw_labels([0, 0, 0, 1, 1, 1], num_classes=2, per_class=2)
        >>> len(rows), labels.tolist()
        (4, [0, 0, 1, 1])
    """
    if not isinstance(per_class, Integral) or isinstance(per_class, bool) or per_class < 0:
        raise UsageError(f"labels_per_class must be a whole number of at least 0, not {per_class!r}")
    if not isinstance(noise, Real) or not 0 <= noise < 1:
        raise UsageError(f"label_noise must be at least 0 and less than 1, not {noise!r}")
    if noise and num_classes < 2:
        raise UsageError(f"label_noise={noise} needs another class, but there is only one")
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu" or (labels.size and not 0 <= labels.min() <= labels.max() < num_classes):
        raise UsageError(f"labels must be integers in 0..{num_classes - 1}")
    labels = labels.astype(np.int64)
    rows = np.arange(len(labels))
    if per_class:
        counts = np.bincount(labels)
        if (short := np.flatnonzero((counts > 0) & (counts < per_class))).size:
            fewest = min(short, key=lambda each: counts[each])
            raise UsageError(f"labels_per_class={per_class}, but class {fewest} has {counts[fewest]} training samples")
        shuffled = np.random.Generator(np.random.Philox(text_seed(f"few of seed {seed}"))).random(len(labels)).argsort()
        order, rank = by_class(labels, shuffled)
        rows = np.sort(order[rank < per_class])
    kept = labels[rows]
    draw = np.random.Generator(np.random.Philox(text_seed(f"noise of seed {seed}")))
    wrong = draw.random(len(kept)).argsort()[: round(noise * len(kept))]
    further = 1 + np.floor((num_classes - 1) * draw.random(len(wrong))).astype(np.int64)
    kept[wrong] = (kept[wrong] + further) % num_classes
    return rows, kept

"""Means over seeds, and paired differences on the same seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats


@dataclass(frozen=True)
class Paired:
    """Mean difference of two methods on the same seeds, its 95 % interval (Student) and the paired t-test's p-value."""

    n: int
    difference: float
    low: float
    high: float
    p: float


def mean_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1; nan for one value)."""
    n = len(values)
    if n == 0:
        raise ValueError("no values to take a mean of")
    mean = math.fsum(values) / n
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1)) if n > 1 else math.nan


def paired(baseline: Sequence[float], other: Sequence[float], confidence: float = 0.95) -> Paired:
    """Compare ``other`` with ``baseline``, both in the order of the same seeds.

    Raises:
        ValueError: the sequences differ in length.
    """
    if len(baseline) != len(other):
        raise ValueError(f"a paired comparison needs the same seeds: {len(baseline)} and {len(other)} values")
    mean, std = mean_std([b - a for a, b in zip(baseline, other, strict=True)])
    n = len(baseline)
    if n < 2:
        return Paired(n, mean, math.nan, math.nan, math.nan)
    error = std / math.sqrt(n)
    if error == 0:  # the same difference on every seed
        return Paired(n, mean, mean, mean, 1.0 if mean == 0 else 0.0)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * error
    return Paired(n, mean, mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / error, n - 1)))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction for as many tests as there are values; nan stays nan and does not count."""
    order = sorted((i for i, value in enumerate(p) if not math.isnan(value)), key=lambda i: p[i])
    adjusted, worst = list(p), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(order) - rank) * p[i]))
        adjusted[i] = worst
    return adjusted

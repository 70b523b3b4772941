"""Means over seeds, and paired differences on the same seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

ROUNDING = 1e-9  # differences of percentages that vary by less are equal


@dataclass(frozen=True)
class Paired:
    """Mean difference of two methods, its confidence interval and the paired t-test's p-value.

    Interval and p-value are nan where there is no variance to take them from: for one seed, and for equal differences.
    """

    n: int
    difference: float
    low: float
    high: float
    p: float


def mean_std(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the sample standard deviation (n - 1; nan for one value)."""
    n = len(values)
    if n == 0:
        raise ValueError("the mean of no values is not defined")
    mean = math.fsum(values) / n
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1)) if n > 1 else math.nan


def paired(baseline: Sequence[float], other: Sequence[float], confidence: float = 0.95) -> Paired:
    """Compare ``other`` with ``baseline``; both list the same seeds in the same order."""
    if len(baseline) != len(other):
        raise ValueError(f"a paired comparison needs the same seeds: got {len(baseline)} and {len(other)} values")
    mean, std = mean_std([b - a for a, b in zip(baseline, other, strict=True)])
    n = len(baseline)
    if n < 2 or std < ROUNDING:  # of equal differences the test statistic is infinite, or 0 / 0
        return Paired(n, mean, math.nan, math.nan, math.nan)
    from scipy.special import stdtr, stdtrit  # scipy.stats takes two seconds to import

    error = std / math.sqrt(n)
    reach = float(stdtrit(n - 1, (1 + confidence) / 2)) * error
    return Paired(n, mean, mean - reach, mean + reach, 2 * float(stdtr(n - 1, -abs(mean) / error)))


def holm(p: Sequence[float]) -> list[float]:
    """Apply Holm's step-down correction to a family of p-values; nan stays nan and does not count."""
    order = sorted((i for i, value in enumerate(p) if not math.isnan(value)), key=lambda i: p[i])
    adjusted, largest = list(p), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p[i]))
        adjusted[i] = largest
    return adjusted

"""The definition of the hyperspherical energy, in plain Python: what every fast path has to agree with."""

import math
from collections.abc import Sequence
from typing import Any


def reference_energy(
    rows: Sequence[Sequence[float]], s: float = 2, half_space: bool = False, geodesic: bool = False, mean: bool = True
) -> float:
    """Energy of neurons that are rows of floats: mean (or sum) of 1 / distance^s over the ordered pairs of points."""
    points = [[x / math.hypot(*row) for x in row] for row in rows]
    if half_space:
        points += [[-x for x in point] for point in points]
    total = 0.0
    for i, p in enumerate(points):
        for j, q in enumerate(points):
            if i != j:
                distance = math.dist(p, q)
                if geodesic:  # the angle in units of pi, with the released code's offset
                    across = math.hypot(*(a + b for a, b in zip(p, q, strict=True)))
                    distance = 2 * math.atan2(distance, across) / math.pi + 1e-4
                logarithm = -math.log(distance) if geodesic else -2 * math.log(distance)
                total += logarithm if s == 0 else distance**-s
    return total / (len(points) * (len(points) - 1)) if mean else total


def reference_gradient(
    rows: Sequence[Sequence[Any]],
    s: float = 2,
    half_space: bool = False,
    geodesic: bool = False,
    *,
    floor: float = 0,
    parallel: float = 0,
    numbers: Any = math,
) -> list[list[Any]]:
    """The gradient of the mean energy in each row, pair by pair; ``numbers=mpmath.mp`` has as many digits as one likes.

    At squared distances below ``floor``, and in a geodesic energy above 4 - floor, the slope is that at the bound; a
    pair of rows that are closer than ``parallel`` to each other or, where that is a pole, to their opposites, has none.
    """
    lengths = [numbers.sqrt(sum(x * x for x in row)) for row in rows]
    units = [[x / length for x in row] for row, length in zip(rows, lengths, strict=True)]
    gradient = [[0 * x for x in row] for row in rows]
    count = len(rows)
    pairs = count * (2 * count - 1) if half_space else count * (count - 1) // 2
    for i, p in enumerate(units):
        for j, q in enumerate(units):
            cosine = sum(a * b for a, b in zip(p, q, strict=True))
            distances = [sum((a - side * b) ** 2 for a, b in zip(p, q, strict=True)) for side in (1, -1)]
            if i == j or min(distances[: 2 if half_space or geodesic else 1]) < parallel:
                continue
            slope = _slope(distances[0], s, geodesic, floor, numbers)
            if half_space:
                slope = 2 * (slope - _slope(distances[1], s, geodesic, floor, numbers))
            for k, (a, b) in enumerate(zip(p, q, strict=True)):
                gradient[i][k] += slope * (b - cosine * a) / (lengths[i] * pairs)
    return gradient


def _slope(z: Any, s: float, geodesic: bool, floor: float, numbers: Any) -> Any:
    """d f / d c at a squared distance."""
    if not geodesic:
        z = max(z, floor)
        return s * z ** (-s / 2 - 1) if s else 2 / z
    z = min(max(z, floor), 4 - floor)
    a = 2 * numbers.asin(numbers.sqrt(z) / 2) / numbers.pi + 1e-4
    return (s * a ** (-s - 1) if s else 1 / a) * 2 / (numbers.pi * numbers.sqrt(z * (4 - z)))

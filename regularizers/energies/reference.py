"""The definition of the hyperspherical energy, in plain Python: what every fast path has to agree with."""

import math
from collections.abc import Sequence


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

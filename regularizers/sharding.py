"""Which of several processes computes which layers' penalties."""

from collections.abc import Sequence


def balance(costs: Sequence[float], ranks: int) -> list[int]:
    """A rank for each cost: the largest first, each to the rank with the least so far, the lowest among equals.

    No rank gets more than 4/3 - 1/(3 ranks) times what the busiest one has in the best division.

    Source: Graham, *Bounds on Multiprocessing Timing Anomalies*, 1969.
    """
    load, owners = [0.0] * ranks, [0] * len(costs)
    for index in sorted(range(len(costs)), key=lambda index: (-costs[index], index)):
        owners[index] = min(range(ranks), key=lambda rank: (load[rank], rank))
        load[owners[index]] += costs[index]
    return owners

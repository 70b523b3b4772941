"""How the learning rate moves over a run."""

from __future__ import annotations

import math

from comhe.errors import UsageError

NAMES = ("constant", "cosine", "one-cycle", "step:A,B,...", "decay:F,S")


def factor(schedule: str, progress: float, warmup: float = 0.0) -> float:
    r"""What the recipe's learning rate is multiplied with after the share ``progress`` (0 to 1) of all steps.

    During the first ``warmup`` of the run it rises from 0 along a line. Then, with p from 0 to 1 over the rest:
    ``constant`` 1; ``cosine`` :math:`(1 + \cos \pi p) / 2`; ``one-cycle`` :math:`1 - p`; ``step:A,B,...`` ten times
    less from each of the shares A, B, ... of the whole run on; ``decay:F,S`` F times as much after each share S of it.

    Errors: UsageError for an unknown schedule.
    """
    name, _, places = schedule.partition(":")
    if progress < warmup:
        return progress / warmup
    rest = (progress - warmup) / (1 - warmup)
    try:
        if name == "step":
            return 0.1 ** sum(progress >= float(place) for place in places.split(","))
        if name == "decay":
            by, share = map(float, places.split(","))
            return by ** (progress // share)
    except (ValueError, ZeroDivisionError):
        pass  # the error below
    if schedule == "constant":
        return 1.0
    elif schedule == "cosine":
        return (1 + math.cos(math.pi * rest)) / 2
    elif schedule == "one-cycle":
        return 1 - rest
    raise UsageError(f"unknown schedule {schedule!r}; there are {', '.join(NAMES)} (step:0.5,0.75 for instance)")

"""How the learning rate changes over a run."""

import math

from comhe.errors import UsageError


def factor(schedule: str, progress: float, warmup: float = 0.0) -> float:
    r"""Return the factor of the recipe's learning rate after the share ``progress`` (0 to 1) of all steps.

    During the first ``warmup`` of the run it rises linearly from 0. Then, with p from 0 to 1 over the rest:
    ``constant`` 1; ``cosine`` :math:`(1 + \cos \pi p) / 2`; ``one-cycle`` :math:`1 - p`; ``step:A,B,...`` a tenth after
    each of the shares A, B, ... of the run; ``decay:F,S`` F times as much after each share S of it.
    """
    name, _, values = schedule.partition(":")
    if progress < warmup:
        return progress / warmup
    rest = (progress - warmup) / (1 - warmup)
    try:
        if name == "step":
            return 0.1 ** sum(progress >= float(share) for share in values.split(","))
        if name == "decay":
            base, share = map(float, values.split(","))
            return base ** (progress // share)
    except (ValueError, ZeroDivisionError):
        pass  # the error below
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return (1 + math.cos(math.pi * rest)) / 2
    if schedule == "one-cycle":
        return 1 - rest
    raise UsageError(f"unknown schedule {schedule!r}; there are constant, cosine, one-cycle, step:A,B,..., decay:F,S")

"""The factors of penalties in the loss: numbers, or functions of the step."""

import math
from collections.abc import Callable
from typing import Any, Literal

from comhe.errors import UsageError

Weight = float | Callable[[int], float]


def check_weights(
    defaults: Any, weight: Weight | None, output_weight: Weight | Literal["default"] | None
) -> tuple[Weight, Weight]:
    """The two weights with the defaults of a penalty filled in; UsageError if one is out of range."""
    weight = defaults.default_weight if weight is None else weight
    output_weight = defaults.default_output_weight if output_weight == "default" else output_weight
    weight = weight if callable(weight) else check_number(weight, "weight")
    if output_weight is None or callable(output_weight):
        return weight, output_weight or weight
    return weight, check_number(output_weight, "output_weight")


def check_number(weight: Any, what: str) -> float:
    """``weight`` as a float; UsageError unless it is a finite number >= 0."""
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not (weight >= 0 and math.isfinite(weight)):
        raise UsageError(f"{what} must be a finite number >= 0 or a function of the step, not {weight!r}")
    return float(weight)

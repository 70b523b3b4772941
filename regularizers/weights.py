"""The factors of penalties in the loss: numbers, functions of the step, or a table of them by layer."""

import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any, Literal

from comhe.errors import UsageError, did_you_mean

from .globs import matches

Weight = float | Callable[[int], float]
Weights = Weight | Mapping[str, Weight]  # a mapping: globs on the names of layers, the first that matches counts


def check_weights(
    defaults: Any, weight: Weights | None, output_weight: Weight | Literal["default"] | None
) -> tuple[Weights, Weight]:
    """The two weights with the defaults of a penalty filled in; UsageError if one is out of range.

    Example:
        >>> class Defaults:
        ...     default_weight, default_output_weight = 1.0, 10.0
        >>> check_weights(Defaults, {"blocks.*": 0.5}, "default")
        ({'blocks.*': 0.5}, 10.0)
        >>> check_weights(Defaults, 2, None)
        (2.0, 2.0)
    """
    output_weight = defaults.default_output_weight if output_weight == "default" else output_weight
    hidden = weight = defaults.default_weight if weight is None else weight
    if isinstance(weight, Mapping):
        if others := [glob for glob in weight if not isinstance(glob, str)]:
            raise UsageError(f"a table of weights has globs on the names of layers, given as text, not {others[0]!r}")
        weight = {glob: _checked(each, f"weight[{glob!r}]") for glob, each in weight.items()}
        hidden = defaults.default_weight
    else:
        hidden = weight = _checked(weight, "weight")
    return weight, hidden if output_weight is None else _checked(output_weight, "output_weight")


def check_number(weight: Any, what: str) -> float:
    """``weight`` as a float; UsageError unless it is a finite number >= 0.

    Example:
        >>> check_number(1, "weight")
        1.0
    """
    if isinstance(weight, bool) or not isinstance(weight, Real) or not 0 <= float(weight) < math.inf:
        raise UsageError(f"{what} must be a finite number >= 0 or a function of the step, not {weight!r}")
    return float(weight)


def check_globs(weight: Weights, names: Iterable[str]) -> None:
    """UsageError if a glob of a table of weights matches none of the layers.

    Example:
        >>> check_globs({"head": 10.0, "*": 0.1}, ["body.0", "head"])
    """
    names = list(names)
    for glob in unmatched(weight, names):
        raise UsageError(f"weight[{glob!r}] names no regularized layer; {did_you_mean(glob, names)}")


def unmatched(weight: Weights, names: Iterable[str]) -> list[str]:
    """The globs of a table of weights that match none of the layers.

    Example:
        >>> unmatched({"head": 10.0, "*": 0.1}, ["body.0", "body.1"])
        ['head']
    """
    names = list(names)
    globs = weight if isinstance(weight, Mapping) else ()
    return [glob for glob in globs if not any(matches(glob, name) for name in names)]


def match(weights: Mapping[str, Weight], name: str) -> Weight | None:
    """The weight of the first glob that matches a layer's name, or None.

    Example:
        >>> match({"blocks.0.*": 0.5, "blocks.*": 2.0}, "blocks.3.fc")
        2.0
    """
    return next((weight for glob, weight in weights.items() if matches(glob, name)), None)


def _checked(weight: Any, what: str) -> Weight:
    return weight if callable(weight) else check_number(weight, what)

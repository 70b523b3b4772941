"""Regularizers by name."""

import difflib
import inspect
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from torch import nn

from comhe.errors import UnknownOptionError, UsageError

from .penalties.penalty import Penalty
from .regularizer import Regularizer
from .selection import select
from .weights import check_weights

_REGISTRY: dict[str, type[Penalty]] = {}
P = TypeVar("P", bound=type[Penalty])


def register_regularizer(name: str) -> Callable[[P], P]:
    """Class decorator that registers a :class:`Penalty` under ``name``; see there for what it has to define.

    Raises:
        UsageError: the name is taken.

    Example:
        >>> @register_regularizer("squared-norm")
        ... class SquaredNorm(Penalty):
        ...     def function(self, w):
        ...         return w.square().sum((-2, -1))
        >>> regularizer = create_regularizer("squared-norm", nn.Linear(4, 3), weight=0.1)
        >>> del _REGISTRY["squared-norm"]  # for this example alone
    """

    def register(penalty: P) -> P:
        if name in _REGISTRY:
            raise UsageError(f"regularizer {name!r} is already registered by {_REGISTRY[name].__name__}")
        _REGISTRY[name] = penalty
        penalty.name = name
        return penalty

    return register


def list_regularizers(pattern: str = "*") -> list[str]:
    """Names of the regularizers that match a glob, ``none`` first.

    Example:
        >>> list_regularizers("*s*")
        ['dso', 'hs-mhe', 'mhs', 'so', 'srip']
    """
    names = (name for name in _REGISTRY if fnmatchcase(name, pattern))
    return sorted(names, key=lambda name: (name != "none", name))


def create_regularizer(name: str, model: nn.Module, **options: Any) -> Regularizer:
    """Attach the regularizer called ``name`` to a model.

    Args:
        name: one of :func:`list_regularizers`.
        model: any module.
        options: see :func:`regularizer_options`.

    Raises:
        UsageError: an unknown name (the nearest are listed), an option out of range, a model without neurons.
        UnknownOptionError: an option that this regularizer does not have (those that it has are listed).

    Example:
        >>> model = nn.Sequential(nn.Linear(50, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> regularizer = create_regularizer("rp-comhe", model, weight=1.0, output_weight=10.0, dim=40, count=20)
        >>> loss = 1.0 + regularizer()  # once per optimizer step
    """
    penalty, rest = _split(name, options)
    return Regularizer(model, penalty, **rest)


def check_regularizer(name: str, **options: Any) -> None:
    """Raise the error that :func:`create_regularizer` would raise for these options with any model.

    Example:
        >>> check_regularizer("rp-comhe", dim=1)
        Traceback (most recent call last):
        comhe.errors.UsageError: dim must be at least 2: a projection to 1 dimension(s) leaves no angles
    """
    penalty, rest = _split(name, options)
    check_weights(penalty.default_weights(), rest.get("weight"), rest.get("output_weight", "default"))


def regularizer_options(name: str) -> dict[str, Any]:
    """Every option of a regularizer with its default.

    Raises:
        UsageError: an unknown name (the nearest are listed).

    Example:
        >>> regularizer_options("rp-comhe")["dim"], regularizer_options("so")["weight"]
        (40, 0.01)
    """
    penalty = _find(name)
    options = (
        _penalty_options(penalty)
        | dict(zip(("weight", "output_weight"), penalty.default_weights(), strict=True))
        | {"seed": 0}
    )
    return options | _keywords(select)


def _find(name: str) -> type[Penalty]:
    if name not in _REGISTRY:
        near = difflib.get_close_matches(name, _REGISTRY, n=3, cutoff=0.4) or list(_REGISTRY)
        raise UsageError(f"unknown regularizer {name!r}; did you mean {', '.join(near)}?")
    return _REGISTRY[name]


def _split(name: str, options: dict[str, Any]) -> tuple[Penalty, dict[str, Any]]:
    """The penalty with its options, and the options that are the plug's."""
    accepted, penalty = regularizer_options(name), _find(name)
    for option in options:
        if option not in accepted:
            raise UnknownOptionError(f"{name} has no option {option!r}; its options are {', '.join(accepted)}")
    theirs = _penalty_options(penalty)
    return (
        penalty(**{key: value for key, value in options.items() if key in theirs}),
        {key: value for key, value in options.items() if key not in theirs},
    )


def _penalty_options(penalty: type[Penalty]) -> dict[str, Any]:
    """Arguments of the class and, as far as it passes on ``**options``, of its bases."""
    options: dict[str, Any] = {}
    for base in penalty.__mro__:
        if base is not object and (init := vars(base).get("__init__")):
            options = _keywords(init) | options
            if all(p.kind is not p.VAR_KEYWORD for p in inspect.signature(init).parameters.values()):
                break
    return options


def _keywords(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.items()
    return {key: parameter.default for key, parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}

"""Regularizers by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from fnmatch import fnmatchcase

from torch import nn

from .regularizer import Regularizer
from .selection import select

_REGISTRY: dict[str, type[Regularizer]] = {}


def register_regularizer(name: str) -> Callable[[type[Regularizer]], type[Regularizer]]:
    """Class decorator: make a :class:`Regularizer` known by ``name``. A name that is taken is an error."""

    def register(cls: type[Regularizer]) -> type[Regularizer]:
        if name in _REGISTRY:
            raise ValueError(f"regularizer {name!r} is already registered by {_REGISTRY[name].__name__}")
        _REGISTRY[name] = cls
        cls.name = name
        return cls

    return register


def list_regularizers(pattern: str = "*") -> list[str]:
    """Names of the regularizers that match a glob, ``none`` first."""
    names = (name for name in _REGISTRY if fnmatchcase(name, pattern))
    return sorted(names, key=lambda name: (name != "none", name))


def create_regularizer(name: str, model: nn.Module, **options) -> Regularizer:
    """Attach the regularizer called ``name`` to a model.

    >>> regularizer = create_regularizer("rp-comhe", model, weight=1.0, output_weight=10.0, dim=40, count=20)
    >>> loss = criterion(model(x), y) + regularizer()

    Raises:
        ValueError: an unknown name (the nearest are listed), an option out of range, a model without neurons.
        TypeError: an option that this regularizer does not have (those that it has are listed).
    """
    if name not in _REGISTRY:
        near = difflib.get_close_matches(name, _REGISTRY, n=3, cutoff=0.4) or list(_REGISTRY)
        raise ValueError(f"unknown regularizer {name!r}; did you mean {', '.join(near)}?")
    cls = _REGISTRY[name]
    accepted = regularizer_options(name)
    for option in options:
        if option not in accepted:
            raise TypeError(f"{name} has no option {option!r}; its options are {', '.join(accepted)}")
    return cls(model, **options)


def regularizer_options(name: str) -> dict[str, object]:
    """Every option of a regularizer with its default."""
    options: dict[str, object] = {}
    for function in (*(base.__init__ for base in _REGISTRY[name].__mro__ if issubclass(base, Regularizer)), select):
        for key, parameter in inspect.signature(function).parameters.items():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY and key not in options:
                options[key] = parameter.default
    return options

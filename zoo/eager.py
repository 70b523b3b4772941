"""Functions that run as they are in a compiled program."""

import functools
from collections.abc import Callable
from typing import TypeVar

import torch

F = TypeVar("F", bound=Callable)


def eager(function: F) -> F:
    """Decorate a function that ``torch.compile`` is not to compile: in a compiled program it is one graph break.

    Unlike ``torch.compiler.disable`` used as a decorator, it does not load the compiler at import, which takes seconds.

    Example:
        >>> @eager
        ... def double(x):
        ...     return 2 * x
        >>> double(3)
        6
    """

    @functools.wraps(function)
    def run(*arguments, **options):
        if torch.compiler.is_compiling():
            return torch.compiler.disable(function)(*arguments, **options)
        return function(*arguments, **options)

    return run  # type: ignore[return-value]

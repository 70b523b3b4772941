"""What can go wrong that a user can mend. Anything else that is raised is a bug, and keeps its traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class ComheError(Exception):
    """Base of the package's own errors; the command line shows their message alone, in one line."""


class UsageError(ComheError, ValueError):
    """A name, an option or an argument that does not fit; the message names it, and what to do."""


class UnknownOptionError(UsageError, TypeError):
    """An option that the thing created does not have."""


class DataError(ComheError, ValueError):
    """A data set, or a file of one, that is missing, damaged or of the wrong kind."""


class WeightsError(ComheError, ValueError):
    """Weights that are missing or damaged, or that do not fit the model."""


class RunError(ComheError, ValueError):
    """A run folder that cannot be used as it is: not finished, damaged, or of another recipe."""


class StorageError(ComheError, OSError):
    """A file that the system does not let us write."""


class BusyError(ComheError, BlockingIOError):
    """Another process is working on the folder."""


class DivergedError(ComheError, FloatingPointError):
    """The loss, the penalty or a weight is not finite any more."""


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Raise UsageError unless an argument has one of the values."""
    if value not in (choices := list(choices)):
        raise UsageError(f"{name} must be one of {', '.join(map(str, choices))}, not {value!r}")


def check_at_least(name: str, value: float, least: float) -> None:
    """Raise UsageError where an argument is less than it may be."""
    if not value >= least:
        raise UsageError(f"{name} must be at least {least}, not {value!r}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message: the nearest of the known names, or all of them."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    return f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(known) or 'none'}"

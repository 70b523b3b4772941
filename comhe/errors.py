"""What can go wrong that a user can mend. Anything else that is raised is a bug, and keeps its traceback."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable


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


def check_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Raise UsageError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise UsageError(f"{name} must be {' or '.join(map(repr, choices))}, not {value!r}")


def check_at_least(name: str, value: float, least: float) -> None:
    """Raise UsageError unless ``value`` is a number of at least ``least``."""
    if not value >= least:
        raise UsageError(f"{name} must be at least {least}, not {value!r}")


def check_dropout(p: float) -> None:
    """Raise UsageError unless ``p`` is a probability of at least 0 and less than 1."""
    if not 0 <= p < 1:
        raise UsageError(f"dropout must be in [0, 1), not {p!r}")


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class if it has none.

    Example:
        >>> first_line(RuntimeError("out of memory\\nmore about it")), first_line(EOFError())
        ('out of memory', 'EOFError')
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message: the nearest of the known names, or all of them."""
    known = list(known)
    near = next(filter(None, (difflib.get_close_matches(name, known, n=3, cutoff=least) for least in (0.6, 0.4))), [])
    return f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(known) or 'none'}"

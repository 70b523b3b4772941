"""What can go wrong that a user can mend. Anything else that is raised is a bug, and keeps its traceback."""

from __future__ import annotations

import difflib
import math
import sys
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, SupportsFloat, SupportsIndex

# Packages between the user's line and ours.
WITHIN = {"comhe", "contextlib", "functools", "lightning", "pytorch_lightning", "torch", "transformers"}


class ComheError(Exception):
    """Base of the package's own errors; the command line shows their message alone, in one line."""


class ComheWarning(UserWarning):
    """Base of the package's own warnings; the command line shows their message alone, in one line."""


class UsageError(ComheError, ValueError):
    """A name, an option or an argument that does not fit; the message names it, and what to do."""


class UnknownOptionError(UsageError, TypeError):
    """An option that the thing created does not have."""


class MissingPackageError(ModuleNotFoundError, UsageError):
    """A package of others that is not installed; the message names the extra that brings it."""


class DataError(ComheError, ValueError):
    """A data set, or a file of one, that is missing, damaged or of the wrong kind."""


class WeightsError(ComheError, ValueError):
    """Weights that are missing or damaged, or that do not fit the model.

    What helps is known apart from the ``problem``, because a command has other options than a function: ``build``, the
    options that the model would have to be built with; and ``load``, arguments of loading, with what each is for.

    Example:
        >>> print(WeightsError("no head", {"width": 2}, {"swap_head=True": "to keep yours"}))
        no head; build the model with width=2, or pass swap_head=True to keep yours
    """

    def __init__(
        self, problem: str, build: Mapping[str, object] | None = None, load: Mapping[str, str] | None = None
    ) -> None:
        self.problem, self.build, self.load = problem, dict(build or {}), dict(load or {})
        settings = ", ".join(f"{option}={value!r}" for option, value in self.build.items())
        super().__init__(self.with_advice(settings and f"build the model with {settings}", self.load))

    def with_advice(self, build: str, load: Mapping[str, str]) -> str:
        """Return the problem with advice: how to build the model, or what to pass."""
        advice = [build, *(f"pass {option} {what}".strip() for option, what in load.items())]
        return "; ".join(filter(None, (self.problem, ", or ".join(filter(None, advice)))))


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


def check_at_least(name: str, value: SupportsFloat, least: float) -> None:
    """Raise UsageError unless ``value`` is a finite number of at least ``least``."""
    number = float(value) if isinstance(value, SupportsFloat) else math.nan
    if not least <= number < math.inf:
        raise UsageError(f"{name} must be at least {least}{' and finite' * (number > least)}, not {value!r}")


def check_count(name: str, value: object, least: int) -> None:
    """Raise UsageError unless ``value`` is a whole number of at least ``least``."""
    if not isinstance(value, SupportsIndex):
        raise UsageError(f"{name} must be a whole number of at least {least}, not {value!r}")
    check_at_least(name, int(value), least)


def check_dropout(p: float) -> None:
    """Raise UsageError unless ``p`` is a probability of at least 0 and less than 1."""
    if not 0 <= p < 1:
        raise UsageError(f"dropout must be in [0, 1), not {p!r}")


@contextmanager
def needs(extra: str, what: str, *later: str) -> Iterator[None]:
    """Around imports of other packages: one that is not installed is a MissingPackageError that names our extra.

    Args:
        extra: the extra of this package that brings them, such as ``"zoo"``.
        what: what cannot be used without them.
        later: packages that are imported only when they are used, and told about now.

    Example:
        >>> with needs("zoo", "this example"):
        ...     import no_such_package
        Traceback (most recent call last):
        comhe.errors.MissingPackageError: this example needs no_such_package, ...: pip install 'comhe[zoo]'
    """
    try:
        for name in later:
            if (sys.modules[name] if name in sys.modules else find_spec(name)) is None:
                raise ModuleNotFoundError(name=name)
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "comhe").partition(".")[0]
        if missing == "comhe":  # a module of this package: a bug, or a damaged install
            raise
        message = f"{what} needs {missing}, which is not installed: pip install 'comhe[{extra}]'"
        raise MissingPackageError(message, name=missing) from error


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class if it has none.

    Example:
        >>> first_line(RuntimeError("out of memory\\nmore about it")), first_line(EOFError())
        ('out of memory', 'EOFError')
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def warn(message: str, category: type[ComheWarning] = ComheWarning) -> None:
    """Warn of a line outside of this package: the one that called it, however deep the reason is found."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in WITHIN:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def few(names: Iterable[object], most: int = 5) -> str:
    """Return names for a line, the first of them if there are many.

    Example:
        >>> few("abcdefgh"), few([3, 1])
        ('a, b, c, d, e and 3 more', '3, 1')
    """
    words = [*map(str, names)]
    more = f" and {len(words) - most:,} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def did_you_mean(name: str, known: Iterable[str], many: str = "") -> str:
    """Return the end of an error: the nearest of the known names, or all of them; of more than ten `many`, if given.

    Example:
        >>> did_you_mean("CIFAR10", ["cifar10", "glyphs"])
        'did you mean cifar10?'
    """
    known = list(known)
    lower, words = str(name).lower(), {each.lower(): each for each in known}
    near = [lower] if lower in words else difflib.get_close_matches(lower, words, n=3, cutoff=0.6)
    if near := near or difflib.get_close_matches(lower, words, n=3, cutoff=0.4):
        return f"did you mean {', '.join(words[each] for each in near)}?"
    return many if many and len(known) > 10 else f"there are {', '.join(known) or 'none'}"


def seen_from(path: Path) -> str:
    """Return where a path that does not exist was looked for, as the end of an error; nothing if it says so itself.

    Example:
        >>> seen_from(Path("photos")) == f" in the current directory, {Path.cwd()}", seen_from(Path.cwd())
        (True, '')
    """
    return "" if path.is_absolute() else f" in the current directory, {Path.cwd()}"


def is_again(new: Any, before: Any) -> bool:
    """Whether a function or class that is registered is the successor of another, as when a notebook's cell runs again.

    Example:
        >>> is_again(is_again, is_again), is_again(lambda: 1, lambda: 2)
        (True, False)
    """
    place, other = ((getattr(x, "__module__", ""), getattr(x, "__qualname__", "<lambda>")) for x in (new, before))
    return place == other and "<" not in place[1]  # <lambda>, or <locals> of a function that makes several

"""Progress of long work: steps of a training, files that are decoded, bytes of a download.

Whoever works calls :func:`track` or :func:`tracked`; whoever watches installs a display with :func:`watched_by`.
Without one nothing is shown, except for what fetches and decodes data (``always``), on a terminal.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

INTERVAL = 0.1  # seconds between two reports of the same work
PATIENCE = 0.3  # seconds after which work is long enough to be shown

T = TypeVar("T")


@dataclass(frozen=True)
class Amount:
    """How far some work is: ``done`` of ``total`` units, None if nobody knows how many there are."""

    label: str
    done: float
    total: float | None
    unit: str


class Display(Protocol):
    """What shows progress, to a person or to another process."""

    def update(self, key: Hashable, amount: Amount) -> None:
        """Show how far the work is that is known by ``key``."""

    def end(self, key: Hashable) -> None:
        """Forget the work, which may never have been shown."""


_display: Display | None = None


@contextmanager
def watched_by(display: Display | None) -> Iterator[None]:
    """Show the progress of what is done in this block."""
    global _display
    before, _display = _display, display
    try:
        yield
    finally:
        _display = before


def current_display() -> Display | None:
    """Return the display that is installed, if there is one."""
    return _display


@contextmanager
def track(label: str, total: float | None, unit: str, always: bool = False) -> Iterator[Callable[[float], None]]:
    """Yield a function of how much is done, which is cheap enough to be called in every step.

    Example:
        >>> with track("counting", 3, "number") as report:
        ...     report(1)
    """
    if _display is None and always and sys.stderr.isatty():
        with Bars() as bars, watched_by(bars), track(label, total, unit) as shown:
            yield shown
        return
    display, key, last = _display, object(), time.monotonic()
    if display is None:
        yield lambda done: None
        return

    def report(done: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= INTERVAL:
            last = now
            display.update(key, Amount(label, done, total, unit))

    try:
        yield report
    finally:
        display.end(key)


def tracked(
    items: Iterable[T],
    label: str,
    total: float | None,
    unit: str,
    size: Callable[[T], float] = lambda item: 1,
    always: bool = False,
) -> Iterator[T]:
    """Iterate over items, each of so many units.

    Example:
        >>> list(tracked("abc", "letters", 3, "letter"))
        ['a', 'b', 'c']
    """
    with track(label, total, unit, always) as report:
        done = 0.0
        for item in items:
            yield item
            done += size(item)
            report(done)


class Bars:
    """Bars on a terminal, on standard error: one for each work, and perhaps one over many runs (:meth:`overall`)."""

    def __init__(self, console: Any = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        self.console = console or Console(stderr=True, highlight=False)
        label = TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"))
        figures = TextColumn("{task.fields[figures]}", justify="right", table_column=Column(no_wrap=True))
        bar = [] if self.console.width < 72 else [BarColumn(12)]
        shown: Any = {"transient": True, "expand": True}
        self._progress = Progress(label, *bar, figures, console=self.console, refresh_per_second=4, **shown)
        self._rows: dict[Hashable, _Row] = {}
        self._overall: _Row | None = None

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def print(self, line: str) -> None:
        """Print a line above the bars, where it stays."""
        self.console.print(line, markup=False, soft_wrap=True)

    def update(self, key: Hashable, amount: Amount) -> None:
        row = self._rows.setdefault(key, _Row(amount))
        row.amount = amount
        if row.is_long():
            self._draw(row)
        self._draw_overall()

    def end(self, key: Hashable) -> None:
        row = self._rows.pop(key, None)
        if row is not None and row.task is not None:
            self._progress.remove_task(row.task)

    def overall(self, amount: Amount) -> None:
        """Show how many runs have ended; those at work count by their share of steps."""
        self._overall = self._overall or _Row(amount)
        self._overall.amount = amount
        self._draw_overall()

    def _draw_overall(self) -> None:
        if self._overall is not None:
            amounts = [row.amount for row in self._rows.values() if row.amount.unit == "step"]
            self._draw(self._overall, math.fsum(each.done / each.total for each in amounts if each.total))

    def _draw(self, row: _Row, more: float = 0.0) -> None:
        figures, amount = row.figures(more), row.amount
        if row.task is None:
            row.task = self._progress.add_task(amount.label, total=amount.total, figures=figures)
        self._progress.update(row.task, completed=amount.done + more, total=amount.total, figures=figures)


class _Row:
    """One work on the screen, and when it began to be watched."""

    def __init__(self, amount: Amount) -> None:
        self.amount = amount
        self.task: Any = None
        self._first, self._began = amount.done, time.monotonic()

    def is_long(self) -> bool:
        return time.monotonic() - self._began >= PATIENCE

    def figures(self, more: float = 0.0) -> str:
        """Return what is done, how much a second, and the time left."""
        amount, seconds = self.amount, time.monotonic() - self._began
        done = amount.done + more - self._first
        rate = done / seconds if seconds > 0 else 0.0
        parts = [count_text(amount)]
        if rate > 0:
            each, rates = SCALES.get(amount.unit, (1.0, amount.unit + "s"))
            parts.append(f"{_rounded(rate * each)} {rates}/s" if rate * each >= 0.5 else f"{_rounded(1 / rate)} s each")
            if amount.total is not None:
                parts.append(f"{clock((amount.total - amount.done - more) / rate)} left")
        return "  ".join(parts)


SCALES = {"byte": (1e-6, "MB")}  # units that are shown as multiples


def count_text(amount: Amount) -> str:
    """Return how much is done in words.

    Example:
        >>> count_text(Amount("training", 30, 200, "step")), count_text(Amount("file", 12.5e6, None, "byte"))
        ('30/200 steps', '12.5 MB')
    """
    factor, name = SCALES.get(amount.unit, (1.0, f"{amount.unit}s"))
    numbers = [amount.done] if amount.total is None else [amount.done, amount.total]
    return "/".join(f"{n * factor:.1f}" if factor != 1 else f"{n:,.0f}" for n in numbers) + f" {name}"


def clock(seconds: float) -> str:
    """Return seconds as minutes and seconds, or as hours too.

    Example:
        >>> clock(75.2), clock(7322)
        ('1:15', '2:02:02')
    """
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"

"""The terminal: results on standard output, progress on standard error."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from comhe.progress import Amount, Bars, watched_by

from .layout import lay_out


def width_of(stream: Any) -> int | None:
    """Return the columns that text has to fit into: ``$COLUMNS``, else the terminal's; None for a file or a pipe."""
    if (columns := os.environ.get("COLUMNS", "")).isdecimal() and int(columns) > 0:
        return int(columns)
    try:
        return (os.get_terminal_size(stream.fileno()).columns or None) if stream.isatty() else None
    except (OSError, ValueError, AttributeError):
        return None


def print_table(title: str, header: Sequence[str], cells: Sequence[Sequence[str]], note: str = "") -> None:
    """Print a table that fits the terminal: no cell is cut."""
    print(lay_out(title, header, cells, width_of(sys.stdout), note))


def tell(note: str) -> None:
    """Print what was decided on the way, which is no result."""
    print(note, file=sys.stderr, flush=True)


class _Unseen:
    """Shows nothing: of the processes of one run, the first one tells."""

    def update(self, key: object, amount: Amount) -> None: ...

    def end(self, key: object) -> None: ...


@contextmanager
def show_progress(label: str, unit: str, shown: bool = True) -> Iterator[Callable[[int, int, str], None]]:
    """Yield ``report(done, total, text)``, which says on standard error how far something is.

    An epoch, or on no terminal a run, is a line that stays: each one that took a second, else one in twenty. On a
    terminal bars show steps, those of other processes too, with rate and time left.
    """
    printed = time.monotonic()

    def line(done: int, total: int, text: str, write: Callable[[str], None]) -> None:
        nonlocal printed
        is_due = done == total or done % max(1, total // 20) == 0 or time.monotonic() - printed >= 1
        if is_due or text.startswith("failed"):
            printed = time.monotonic()
            write(f"{label}  {unit} {done}/{total}  {text}")

    if not shown:
        with watched_by(_Unseen()):
            yield lambda done, total, text: None
        return
    if not sys.stderr.isatty():
        yield lambda done, total, text: line(done, total, text, tell)
        return
    with Bars() as bars, watched_by(bars):

        def update(done: int, total: int, text: str) -> None:
            if unit == "run":
                bars.overall(Amount(label, done, total, unit))
            if unit != "run" or text.startswith("failed"):
                line(done, total, text, bars.print)

        yield update

"""The terminal: tables, and progress as a bar, or as plain lines where the output is a file or a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

# A file or pipe has no width to fit into: tables are as wide as they need.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 250)
NAMES = ("model", "data", "regularizer", "settings", "layer")  # columns that are not figures


@contextmanager
def run_progress(label: str) -> Iterator[Callable[[int, int, str], None]]:
    """Yield ``report(done, wanted, latest)``, to be called as each run ends."""
    if not console.is_terminal:

        def line(done: int, wanted: int, latest: str) -> None:
            if latest.startswith("failed") or done == wanted or done % max(1, wanted // 20) == 0:
                console.print(f"{label}  {done}/{wanted} runs, latest {latest}")

        yield line
        return
    with _bar() as progress:
        task = progress.add_task(label, figures="")
        yield lambda done, wanted, latest: progress.update(task, completed=done, total=wanted, figures=latest)


@contextmanager
def epoch_progress(label: str, shown: bool = True) -> Iterator[Callable[[dict[str, Any], int], None]]:
    """Yield ``report(row, epochs)``, to be called after each epoch."""
    if not shown:
        yield lambda row, total: None
        return
    if not console.is_terminal:
        yield lambda row, total: _line(label, row, total)
        return
    with _bar() as progress:
        task = progress.add_task(label, figures="")

        def report(row: dict[str, Any], total: int) -> None:
            progress.update(task, completed=row["epoch"] + 1, total=total, figures=metrics_text(row))

        yield report


def _bar() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"), TimeRemainingColumn()
    return Progress(*columns, console=console)


def print_table(title: str, header: list[str], cells: list[list[str]]) -> None:
    """Print a table: names to the left, figures to the right."""
    shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in header:
        shown.add_column(name, justify="left" if name in NAMES else "right", no_wrap=True)
    for line in cells:
        shown.add_row(*line)
    console.print(shown)


def metrics_text(row: dict[str, Any]) -> str:
    return f"loss {row['loss']:.3f}  penalty {row['penalty']:.3f}  val {100 * row['val_accuracy']:.2f} %"


def _line(label: str, row: dict[str, Any], total: int) -> None:
    if (row["epoch"] + 1) % max(1, total // 10) == 0 or row["epoch"] + 1 == total:
        console.print(f"{label}  epoch {row['epoch'] + 1}/{total}  {metrics_text(row)}")

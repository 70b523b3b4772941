"""The terminal: tables, and progress as a bar, or as lines where the output is a file or a pipe."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

# A file or pipe has no width to fit into: tables are as wide as they need.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 250)
NAMES = ("model", "data", "regularizer", "settings", "layer")  # columns that are not figures


@contextmanager
def show_progress(label: str, unit: str, shown: bool = True) -> Iterator[Callable[[int, int, str], None]]:
    """Yield ``report(done, total, text)``, which shows how far something is; in a pipe, in about twenty lines."""

    def line(done: int, total: int, text: str) -> None:
        if shown and (done == total or done % max(1, total // 20) == 0 or text.startswith("failed")):
            console.print(f"{label}  {unit} {done}/{total}  {text}")

    if not shown or not console.is_terminal:
        yield line
        return
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeRemainingColumn()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(label, text="")

        def update(done: int, total: int, text: str) -> None:
            if text.startswith("failed"):
                progress.console.print(text)  # above the bar, where it stays
            progress.update(task, completed=done, total=total, text=text)

        yield update


def print_table(title: str, header: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in header:
        shown.add_column(name, justify="left" if name in NAMES else "right", no_wrap=True)
    for line in cells:
        shown.add_row(*line)
    console.print(shown)

"""The CSV files of the benchmarks: a first line with commit, versions and machine, then a table."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from comhe.train.runs.run import environment


class Table:
    """A table that is written a row at a time, so that what is cut short has what it had; nowhere without a path."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.columns = path, None
        self.header = f"# {json.dumps(environment())}\n" if path else ""  # before the file changes the work tree

    def add(self, row: dict[str, Any]) -> None:
        """Write a row, numbers with five digits."""
        if self.path is None:
            return
        first = self.columns is None
        self.columns = self.columns or list(row)
        with self.path.open("w" if first else "a", newline="") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            if first:
                file.write(self.header)
                writer.writeheader()
            writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})


def save(path: Path | None, rows: list[dict[str, Any]]) -> None:
    """Write all rows at once."""
    table = Table(path)
    for row in rows:
        table.add(row)

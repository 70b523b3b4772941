"""The CSV files of the benchmarks: a first line with commit, versions and machine, then a table."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from comhe.train.runs.run import environment


def save(path: Path | None, rows: list[dict[str, Any]]) -> None:
    """Write rows, numbers with five digits; nothing where there is no path."""
    if path is None:
        return
    header = f"# {json.dumps(environment())}\n"  # before the file changes the work tree
    with path.open("w", newline="") as file:
        file.write(header)
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)

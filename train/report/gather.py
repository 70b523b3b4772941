"""What a report shows, gathered from run folders or from tables of runs."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comhe.errors import DataError, RunError, UsageError, first_line
from comhe.train.compare.curves import Curves, curves_of, read_curves
from comhe.train.compare.records import REQUIRED, Record, cell_of, read_records, record_of
from comhe.train.runs.run import Run

Cell = tuple[str, ...]  # recipe, model, data, regularizer, variant


@dataclass
class Findings:
    """Finished runs as records, their curves and folders by cell, and the environments of these folders."""

    records: list[Record] = field(default_factory=list)
    curves: dict[Cell, list[Curves]] = field(default_factory=dict)
    runs: dict[Cell, list[Run]] = field(default_factory=dict)
    environments: list[dict[str, Any]] = field(default_factory=list)
    unfinished: int = 0


def gather(sources: Sequence[Path], with_curves: bool = True) -> Findings:
    """Find all runs in folders, at any depth, and in files ``*-runs.csv``; a ComheError if there are none."""
    found = Findings()
    for source in sources:
        if source.is_dir():
            for path in sorted(source.rglob("recipe.json")):
                _add_run(found, Run(path.parent))
        elif source.suffix == ".csv" and source.is_file():
            _add_table(found, source, with_curves)
        else:
            raise UsageError(f"{source} is neither a folder of runs nor a file like kipf-runs.csv")
    if not found.records:
        unfinished = f" ({found.unfinished} are not finished)" if found.unfinished else ""
        raise RunError(f"no finished run in {', '.join(map(str, sources))}{unfinished}; comhe compare makes some")
    _check(found)
    return found


def _add_run(found: Findings, run: Run) -> None:
    if not run.done:
        found.unfinished += 1
        return
    record = record_of(run)
    found.records.append(record)
    found.runs.setdefault(cell_of(record), []).append(run)
    found.curves.setdefault(cell_of(record), []).append(curves_of(run.folder))
    found.environments.append(run.environment())


def _add_table(found: Findings, path: Path, with_curves: bool) -> None:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            names = next(csv.reader(file), [])
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} is not a table of runs (*-runs.csv): {first_line(error)}") from error
    if missing := [name for name in REQUIRED if name not in names]:
        raise DataError(f"{path} is not a table of runs (*-runs.csv): it has no column {', '.join(missing)}")
    records, curves = read_records(path), read_curves(path) if with_curves else {}
    found.records += records
    panels = {cell_of(record)[:3] for record in records}
    for (model, data, *method, _), run in curves.items():
        fitting = [panel for panel in panels if panel[1:] == (model, data) or not (model or data)]
        if len(fitting) > 1:
            raise DataError(
                f"{path} has curves, but several recipes, models or data sets; give each a folder of its own"
            )
        if fitting:
            found.curves.setdefault((*fitting[0], *method), []).append(run)


def _check(found: Findings) -> None:
    """Raise UsageError where a run is listed twice, or one cell has runs with different settings."""
    (key, times), *_ = Counter((*cell_of(record), record["seed"]) for record in found.records).most_common(1)
    if times > 1:
        raise UsageError(f"{' '.join(filter(None, key[:5]))} seed {key[5]} is listed twice; name each run once")
    for runs in found.runs.values():
        first = runs[0].recipe()
        for run in runs[1:]:
            if run.recipe().replace(seed=first.seed) != first:
                what = "runs of one recipe with different settings (of another version?); report them separately"
                raise UsageError(f"{runs[0].folder} and {run.folder} are {what}")

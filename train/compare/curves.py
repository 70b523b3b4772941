"""Accuracy and energies over epochs, from run folders and from the files that go with a table of runs."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from comhe.errors import RunError
from comhe.train.recipe import Recipe
from comhe.train.runs.files import write_csv

from .records import Record, run_of, variant_of
from .statistics import mean_std

NAMES = ("model", "data", "regularizer", "variant", "seed")
LONGEST = 50  # epochs of a curve that are written
Curve = list[tuple[float, float]]
Bands = list[tuple[float, float, float]]
Curves = dict[str, Curve]  # by kind: accuracy, and energies of the hidden and of the output layers


def curves_of(folder: Path) -> Curves:
    """Return a run's validation accuracy in percent, and its mean energies (hidden: half space, output: full space)."""
    curves: Curves = {"accuracy": [], "hidden": [], "output": []}
    curves["accuracy"] += [(int(r["epoch"]) + 1, 100 * float(r["val_accuracy"])) for r in _rows(folder / "metrics.csv")]
    energies: dict[tuple[str, int], list[float]] = {}
    for row in _rows(folder / "energies.csv"):
        value = float(row["half_space_energy" if row["role"] == "hidden" else "energy"])
        energies.setdefault((row["role"], int(row["epoch"])), []).append(value)
    for (role, epoch), values in energies.items():
        curves[role].append((epoch, mean_std(values)[0]))
    return curves


def read_curves(path: Path) -> dict[tuple[str, str, str, str, int], Curves]:
    """Return the curves that go with ``NAME-runs.csv``, by model, data set, regularizer, variant and seed.

    Files of older versions are of one model and data set, and leave both names empty.
    """
    name = path.name.removesuffix("-runs.csv")
    found: dict[tuple[str, str, str, str, int], Curves] = {}
    energies = {"hidden": "hidden_half_space", "output": "output_full_space"}
    for table, columns in {"curves": {"accuracy": "val_accuracy"}, "energies": energies}.items():
        for row in _table(path.with_name(f"{name}-{table}.csv")):
            model, data, regularizer, variant, seed = _key(row)
            run = found.setdefault((model, data, regularizer, variant, int(seed)), {})
            for kind, column in columns.items():
                if row[column]:
                    x, y = int(row["epoch"]), float(row[column])
                    run.setdefault(kind, []).append((x + 1, 100 * y) if kind == "accuracy" else (x, y))
    return found


def save_curves(path: Path, runs: Sequence[tuple[Recipe, Path]], listed: Sequence[Record] | None = None) -> None:
    """Write the curves of a recipe's runs, at most :data:`LONGEST` epochs each.

    Rows of runs that are gone stay; those of runs that are not ``listed`` go, where a list is given.
    """
    panels = {(record["model"], record["data"]) for record in _rows(path.with_name(f"{path.name}-runs.csv"))}
    panels = panels or {(recipe.model, recipe.data) for recipe, _ in runs}
    wanted = None if listed is None else {run_of(record)[1:] for record in listed}
    runs = [(recipe, folder) for recipe, folder in runs if (folder / "metrics.csv").exists()]
    cells = [
        dict(zip(NAMES, (r.model, r.data, r.regularizer, variant_of(r), str(r.seed)), strict=True)) for r, _ in runs
    ]
    known = {_key(cell) for cell in cells}
    for table in ("curves", "energies"):
        file = path.with_name(f"{path.name}-{table}.csv")
        rows = _table(file)
        if len(panels) == 1:  # the names that older versions left out
            rows = [dict(zip(NAMES, min(panels), strict=False)) | row for row in rows]
        rows = [row for row in rows if _key(row) not in known and (wanted is None or _key(row) in wanted)]
        for cell, (_, run) in zip(cells, runs, strict=True):
            rows += [
                cell | row for row in _thinned(_rows(run / "metrics.csv") if table == "curves" else _energies(run))
            ]
        if rows:
            rows = [dict(zip(NAMES, _key(row), strict=True)) | row for row in rows]
            if not any(row["variant"] for row in rows):
                rows = [{name: value for name, value in row.items() if name != "variant"} for row in rows]
            write_csv(file, sorted(rows, key=lambda row: int(row["seed"])))
        else:
            file.unlink(missing_ok=True)


def _key(row: Mapping[str, str]) -> tuple[str, str, str, str, str]:
    model, data, regularizer, variant, seed = (row.get(name) or "" for name in NAMES)
    return model, data, regularizer, variant, seed


def _thinned(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Keep the first and the last epoch, and those between them in equal steps."""
    step = -(-len(rows) // LONGEST)
    return [row for i, row in enumerate(rows, 1) if i in (1, len(rows)) or i % step == 0]


def _energies(run: Path) -> list[dict[str, str]]:
    curves = curves_of(run)
    by_epoch = {
        name: dict(curves[kind]) for kind, name in (("hidden", "hidden_half_space"), ("output", "output_full_space"))
    }
    epochs = sorted({epoch for curve in by_epoch.values() for epoch in curve})
    return [
        {"epoch": f"{epoch:g}"}
        | {name: f"{curve[epoch]:.6g}" if epoch in curve else "" for name, curve in by_epoch.items()}
        for epoch in epochs
    ]


def over_seeds(curves: Iterable[Curve]) -> tuple[Curve, Bands]:
    """Return the mean curve, and the band of one standard deviation around it; there is no band for one seed."""
    values: dict[float, list[float]] = {}
    for x, y in (point for curve in curves for point in curve):
        values.setdefault(x, []).append(y)
    statistics = [(x, *mean_std(ys), len(ys)) for x, ys in sorted(values.items())]
    band = [(x, mean - std, mean + std) for x, mean, std, n in statistics if n > 1]
    return [(x, mean) for x, mean, _, _ in statistics], band


def _table(path: Path) -> list[dict[str, str]]:
    """The rows of a file that goes with a table of runs; RunError if it is damaged."""
    try:
        rows = _rows(path)
        for number, row in enumerate(rows, 2):
            if None in row or None in row.values():
                raise ValueError(f"line {number} has another number of cells than its header")
            if missing := [name for name in ("regularizer", "seed", "epoch") if name not in row]:
                raise ValueError(f"it has no column {', '.join(missing)}")
            if not (row["seed"].isdigit() and row["epoch"].isdigit()):
                raise ValueError(f"line {number} has the seed {row['seed']!r} and the epoch {row['epoch']!r}")
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(f"{path} is not a file of curves: {' '.join(str(error).split())[:160]}") from error
    return rows


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))

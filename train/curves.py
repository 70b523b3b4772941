"""What is drawn over epochs, accuracy and energies: from run folders, and from tables beside a table of runs."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from .statistics import mean_std

Curve = list[tuple[float, float]]
Bands = list[tuple[float, float, float]]
Curves = dict[str, Curve]  # by kind: accuracy, and energies of the hidden and of the output layers


def curves_of(folder: Path) -> Curves:
    """A run's validation accuracy in percent after each epoch, and where it noted them the mean energies of its hidden
    layers (half space) and its output layers (full space) before the first and after further epochs."""
    accuracy = [(int(row["epoch"]) + 1, 100 * float(row["val_accuracy"])) for row in _rows(folder / "metrics.csv")]
    energies: dict[str, dict[int, list[float]]] = {"hidden": {}, "output": {}}
    for row in _rows(folder / "energies.csv"):
        value = float(row["half_space_energy" if row["role"] == "hidden" else "energy"])
        energies[row["role"]].setdefault(int(row["epoch"]), []).append(value)
    means = {role: [(epoch, mean_std(v)[0]) for epoch, v in values.items()] for role, values in energies.items()}
    return {"accuracy": accuracy} | means


def curves_beside(path: Path) -> dict[tuple[str, int], Curves]:
    """The same for the runs of a table ``NAME-runs.csv``, by regularizer and seed, as far as ``NAME-curves.csv``
    (columns regularizer, seed, epoch from 0, val_accuracy, as in ``metrics.csv``) and ``NAME-energies.csv`` (columns
    regularizer, seed, epochs done, hidden_half_space, output_full_space) are beside it."""
    name, found = path.name.removesuffix("-runs.csv"), {}
    for table, columns in (
        ("curves", {"accuracy": "val_accuracy"}),
        ("energies", {"hidden": "hidden_half_space", "output": "output_full_space"}),
    ):
        for row in _rows(path.with_name(f"{name}-{table}.csv")):
            run = found.setdefault((row["regularizer"], int(row["seed"])), {})
            for kind, column in columns.items():
                x, y = int(row["epoch"]), float(row[column])
                run.setdefault(kind, []).append((x + 1, 100 * y) if kind == "accuracy" else (x, y))
    return found


def over_seeds(curves: Iterable[Curve]) -> tuple[Curve, Bands]:
    """Mean, and mean minus and plus one standard deviation; no band for one seed."""
    values: dict[float, list[float]] = {}
    for curve in curves:
        for x, y in curve:
            values.setdefault(x, []).append(y)
    middle, band = [], []
    for x, ys in sorted(values.items()):
        mean, std = mean_std(ys)
        middle.append((x, mean))
        if len(ys) > 1:
            band.append((x, mean - std, mean + std))
    return middle, band


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))

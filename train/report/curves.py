"""What is drawn over epochs, accuracy and energies: from run folders, and from tables beside a table of runs."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from comhe.train.compare.statistics import mean_std

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


def save_curves(folder: Path, name: str, runs: Iterable[tuple[str, int, Path]]) -> None:
    """Write the tables that :func:`curves_beside` reads, of runs (regularizer, seed, folder) of one recipe, model and
    data set. What the tables say of runs whose folders are gone stays."""
    runs = [(regularizer, seed, path) for regularizer, seed, path in runs if (path / "metrics.csv").exists()]
    known = {(regularizer, str(seed)) for regularizer, seed, _ in runs}
    for table in ("curves", "energies"):
        path = folder / f"{name}-{table}.csv"
        rows = [row for row in _rows(path) if (row["regularizer"], row["seed"]) not in known]
        for regularizer, seed, run in runs:
            cell = {"regularizer": regularizer, "seed": str(seed)}
            rows += [cell | row for row in (_rows(run / "metrics.csv") if table == "curves" else _energies(run))]
        rows.sort(key=lambda row: int(row["seed"]))
        if rows:
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


def _energies(run: Path) -> list[dict[str, str]]:
    """Mean energies of a run's hidden and output layers, by epochs done."""
    curves = curves_of(run)
    pairs = zip(curves["hidden"], curves["output"], strict=True)
    return [
        {"epoch": str(epoch), "hidden_half_space": f"{hidden:.6g}", "output_full_space": f"{output:.6g}"}
        for (epoch, hidden), (_, output) in pairs
    ]


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

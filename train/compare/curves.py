"""Accuracy and energies over epochs, from run folders and from the files that go with a table of runs."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from comhe.train.recipe import Recipe
from comhe.train.runs.files import write_csv

from .records import variant_of
from .statistics import mean_std

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


def read_curves(path: Path) -> dict[tuple[str, str, int], Curves]:
    """Return the curves that go with the runs in ``NAME-runs.csv``, by regularizer, variant and seed."""
    name = path.name.removesuffix("-runs.csv")
    found: dict[tuple[str, str, int], Curves] = {}
    energies = {"hidden": "hidden_half_space", "output": "output_full_space"}
    for table, columns in {"curves": {"accuracy": "val_accuracy"}, "energies": energies}.items():
        for row in _rows(path.with_name(f"{name}-{table}.csv")):
            run = found.setdefault((row["regularizer"], row.get("variant", ""), int(row["seed"])), {})
            for kind, column in columns.items():
                x, y = int(row["epoch"]), float(row[column])
                run.setdefault(kind, []).append((x + 1, 100 * y) if kind == "accuracy" else (x, y))
    return found


def save_curves(path: Path, runs: Sequence[tuple[Recipe, Path]]) -> None:
    """Write the curves of runs of one recipe, model and data set; rows of runs that are gone are kept."""
    runs = [(recipe, folder) for recipe, folder in runs if (folder / "metrics.csv").exists()]
    known = {(recipe.regularizer, variant_of(recipe), str(recipe.seed)) for recipe, _ in runs}
    for table in ("curves", "energies"):
        file = path.with_name(f"{path.name}-{table}.csv")
        rows = [r for r in _rows(file) if (r["regularizer"], r.get("variant", ""), r["seed"]) not in known]
        for recipe, run in runs:
            cell = {"regularizer": recipe.regularizer, "seed": str(recipe.seed)}
            if variant := variant_of(recipe):
                cell["variant"] = variant
            rows += [cell | row for row in (_rows(run / "metrics.csv") if table == "curves" else _energies(run))]
        if rows:
            write_csv(file, sorted(rows, key=lambda row: int(row["seed"])))


def _energies(run: Path) -> list[dict[str, str]]:
    curves = curves_of(run)
    names = ("epoch", "hidden_half_space", "output_full_space")
    pairs = zip(curves["hidden"], curves["output"], strict=True)
    return [dict(zip(names, (f"{epoch}", f"{x:.6g}", f"{y:.6g}"), strict=True)) for (epoch, x), (_, y) in pairs]


def over_seeds(curves: Iterable[Curve]) -> tuple[Curve, Bands]:
    """Return the mean curve, and the band of one standard deviation around it; there is no band for one seed."""
    values: dict[float, list[float]] = {}
    for x, y in (point for curve in curves for point in curve):
        values.setdefault(x, []).append(y)
    statistics = [(x, *mean_std(ys), len(ys)) for x, ys in sorted(values.items())]
    band = [(x, mean - std, mean + std) for x, mean, std, n in statistics if n > 1]
    return [(x, mean) for x, mean, _, _ in statistics], band


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))

"""Models x regularizers x data sets x seeds: run what is missing, and say what differs and how surely."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from comhe.train.recipe import Recipe
from comhe.train.runs.files import write_text
from comhe.train.runs.run import Run, run_folder

from .statistics import holm, mean_std, paired

EPOCHS = {"last": "last epoch", "best": "validation-selected"}
CELL = ("recipe", "model", "data", "regularizer")  # what tells cells apart
# What a row says besides accuracy, and the column of the runs that it is the mean of.
COSTS = {name: name for name in ("seconds", "parameters", "gflops", "step_ms", "penalty_ms")}
COSTS |= {"hidden_start": "start_hidden", "output_start": "start_output"}


@dataclass(frozen=True)
class Row:
    """One cell of the table, for one rule of choosing the epoch, its figures means over the seeds.

    Accuracies and differences are in percent. ``gflops`` is one forward pass of a sample, or of a whole graph;
    ``step_ms`` a training step, penalty included, and ``penalty_ms`` the penalty alone, as measured in the runs with
    whatever ran beside them. Energies are those of the weights before training and of the row's epoch: the mean over
    the hidden layers in the half space, over the output layers in the full space.
    """

    recipe: str
    model: str
    data: str
    regularizer: str
    epoch: str
    n: int
    val: float
    test: float
    std: float
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    seconds: float = 0.0
    parameters: float | None = None
    gflops: float | None = None
    step_ms: float | None = None
    penalty_ms: float | None = None
    hidden_start: float | None = None
    hidden_end: float | None = None
    output_start: float | None = None
    output_end: float | None = None


def collect(
    recipes: Iterable[Recipe], runs: Path, known: Mapping[str, Any] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """One record for each run that is done, with the figures of both epochs; those in ``known`` count as done."""
    records = []
    for recipe in recipes:
        run = Run(run_folder(runs, recipe))
        if not run.done:
            records += [known[recipe.digest]] if recipe.digest in known else []
            continue
        if run.recipe() != recipe:
            raise ValueError(f"{run.folder} holds a run of another recipe; choose another folder or remove it")
        if "flops" not in run.result():
            raise ValueError(f"{run.folder} is of an older version, which did not measure costs; remove it, or move it")
        records.append(record_of(run))
    return records


def record_of(run: Run) -> dict[str, Any]:
    """The figures of a run that is done, in the columns of a table of runs; older versions measured no costs."""
    recipe, result = run.recipe(), run.result()
    record = {key: getattr(recipe, key) for key in (*CELL, "seed")}
    for epoch in EPOCHS:
        record[f"{epoch}_epoch"] = result[epoch]["epoch"]
        record[f"{epoch}_val"] = 100 * result[epoch]["val_accuracy"]
        record[f"{epoch}_test"] = 100 * result[epoch]["test_accuracy"]
    record["seconds"] = result["seconds"]
    if "flops" in result:
        record |= {"parameters": result["parameters"], "gflops": result["flops"] / 1e9}
        record |= {f"{what}_ms": 1e3 * result[f"{what}_seconds"] for what in ("step", "penalty")}
        for when in ("start", *EPOCHS):
            layers = result[when]["energy"].values()
            for role, space in (("hidden", "half"), ("output", "full")):
                energies = [layer[space] for layer in layers if layer["role"] == role]
                record[f"{when}_{role}"] = sum(energies) / len(energies) if energies else None
    return {**record, "settings": recipe.digest}


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a file ``*-runs.csv`` that :func:`save` has written; an empty field is None."""
    texts = (*CELL, "settings")
    whole = ("seed", *(f"{epoch}_epoch" for epoch in EPOCHS))

    def value(key: str, text: str) -> Any:
        return text if key in texts else None if text == "" else int(text) if key in whole else float(text)

    with path.open(newline="") as file:
        return [{key: value(key, text) for key, text in row.items()} for row in csv.DictReader(file)]


def known_records(path: Path) -> dict[str, dict[str, Any]]:
    """The records of such a file by the digest of their recipes; none if there is no file."""
    records = read_records(path) if path.exists() else []
    return {record["settings"]: record for record in records if record.get("settings")}


def table(records: Sequence[dict[str, Any]], baseline: str = "none") -> list[Row]:
    """Rows in order of appearance. A difference to ``baseline`` is taken on the seeds that both have."""
    cells: dict[tuple[str, ...], dict[int, dict[str, Any]]] = {}
    for record in records:
        key = tuple(record[k] for k in CELL)
        cells.setdefault(key, {})[record["seed"]] = record
    rows: list[dict[str, Any]] = []
    for epoch in EPOCHS:
        for key, seeds in cells.items():
            values = {seed: record[f"{epoch}_test"] for seed, record in seeds.items()}
            test, std = mean_std(list(values.values()))
            val = mean_std([record[f"{epoch}_val"] for record in seeds.values()])[0]
            row = dict(zip(CELL, key, strict=True))
            row |= {"epoch": epoch, "n": len(values), "val": val, "test": test, "std": std}
            for name, column in {**COSTS, "hidden_end": f"{epoch}_hidden", "output_end": f"{epoch}_output"}.items():
                known = [record[column] for record in seeds.values() if record.get(column) is not None]
                row[name] = mean_std(known)[0] if known else None
            base = cells.get((*key[:3], baseline), {})
            shared = sorted(set(base) & set(values))
            if key[3] != baseline and shared:
                pair = paired([base[s][f"{epoch}_test"] for s in shared], [values[s] for s in shared])
                row |= {"difference": pair.difference, "low": pair.low, "high": pair.high, "p": pair.p}
            rows.append(row)
    tested = [row for row in rows if "p" in row]
    for epoch in EPOCHS:  # the two epochs are two views of the same runs: one family of tests each
        family = [row for row in tested if row["epoch"] == epoch]
        for row, adjusted in zip(family, holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = adjusted
    return [Row(**row) for row in rows]


def write_csv(path: Path, records: Sequence[dict[str, Any] | Row]) -> None:
    """Write records or rows, numbers with six digits."""
    dicts = [asdict(record) if isinstance(record, Row) else record for record in records]
    names = list(dict.fromkeys(name for d in dicts for name in d)) or [f.name for f in fields(Row)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in d.items()} for d in dicts)


def cells_of(row: Row) -> list[str]:
    """A row as text, for a terminal or Markdown table; one seed has neither deviation nor interval."""
    difference = interval = p = ""
    test = f"{row.test:.2f}" + (f" ± {row.std:.2f}" if row.n > 1 else "")
    if row.difference is not None:
        difference = f"{round(row.difference, 9):+.2f}"  # a tie is rounded alike from a run and from its table
    if row.p_holm is not None and not math.isnan(row.p_holm):
        interval = f"{row.low:+.2f} to {row.high:+.2f}"
        p = "< 0.0001" if row.p_holm < 1e-4 else f"{row.p_holm:.4f}"
    figures = [str(row.n), f"{row.val:.2f}", test, difference, interval, p]
    return [row.model, row.data, row.regularizer, *figures]


def costs_of(row: Row) -> list[str]:
    """What a row cost and did to the energies, as text; empty where it was not measured."""
    figures = [f"{row.parameters:,.0f}", f"{row.gflops:.4g}"] if row.gflops is not None else ["", ""]
    figures += ["" if value is None else _three(value) for value in (row.step_ms, row.penalty_ms)]
    for start, end in ((row.hidden_start, row.hidden_end), (row.output_start, row.output_end)):
        figures.append("" if start is None or end is None else f"{start:.4f} to {end:.4f}")
    return [row.model, row.data, row.regularizer, *figures, _three(row.seconds)]


def _three(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:#.3g}".rstrip(".") if abs(value) < 999.5 else f"{value:,.0f}"


HEADER = ["model", "data", "regularizer", "n", "val %", "test %", "difference", "95 % interval", "p (Holm)"]

COST_HEADER = [*HEADER[:3], "parameters", "GFLOP", "ms a step", "ms of it penalty"]
COST_HEADER += ["hidden energy, half space", "output energy", "s a run"]


def views(rows: Sequence[Row]) -> list[tuple[str, list[str], list[list[str]]]]:
    """The tables that are shown, as title, header and cells: accuracy for each rule of choosing the epoch, and cost
    where the runs have measured it."""
    tables = [(title, HEADER, [cells_of(row) for row in rows if row.epoch == epoch]) for epoch, title in EPOCHS.items()]
    costs = [costs_of(row) for row in rows if row.epoch == "last" and row.gflops is not None]
    return [*tables, ("cost, and energies before and after", COST_HEADER, costs)] if costs else tables


def markdown(rows: Sequence[Row]) -> str:
    """The tables of :func:`views` in Markdown."""
    parts = []
    for title, header, cells in views(rows):
        lines = [header, ["---"] * len(header), *cells]
        parts.append(f"**{title.capitalize()}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(parts) + "\n"


def save(folder: Path, name: str, records: Sequence[dict[str, Any]], rows: Sequence[Row]) -> None:
    """``name.csv``, ``name.json`` and ``name.md`` (the table) and ``name-runs.csv`` (every run) in ``folder``."""
    write_csv(folder / f"{name}-runs.csv", records)
    write_csv(folder / f"{name}.csv", rows)
    dicts = [{key: None if value != value else value for key, value in asdict(row).items()} for row in rows]  # no NaN
    write_text(folder / f"{name}.json", json.dumps(dicts, indent=1, allow_nan=False) + "\n")
    write_text(folder / f"{name}.md", markdown(rows))

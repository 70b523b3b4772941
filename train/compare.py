"""Models x regularizers x data sets x seeds: run what is missing, and say what differs and how surely."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from multiprocessing import get_context
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .domains import make_task
from .loop import fit
from .recipe import Recipe
from .run import Run, write
from .statistics import holm, mean_std, paired

EPOCHS = {"last": "last epoch", "best": "validation-selected"}


@dataclass(frozen=True)
class Row:
    """One cell of the table, for one rule of choosing the epoch. Accuracies and differences in percent."""

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


def run_folder(runs: Path, recipe: Recipe) -> Path:
    return runs / recipe.recipe / recipe.name / f"seed{recipe.seed}"


def train_one(recipe: Recipe, runs: Path, root: str | None, device: str, progress: Callable = lambda *_: None) -> Path:
    """Make one run, or finish it, or find it done."""
    run = Run(run_folder(runs, recipe))
    if run.done:
        run.start(recipe)  # the error if it was another recipe
    else:
        fit(make_task(recipe, root, device), run, progress)
    return run.folder


def train_all(
    recipes: Iterable[Recipe],
    runs: Path,
    root: str | None,
    device: str,
    jobs: int,
    progress: Callable[[int, int, str], None] = lambda *_: None,
) -> list[str]:
    """Make all runs that are missing, ``jobs`` processes at a time; returns one line for each that failed.

    ``progress(done, wanted, latest)`` is called as each run ends.
    """
    wanted = [recipe for recipe in recipes if not Run(run_folder(runs, recipe)).done]
    failures: list[str] = []
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_start_worker, initargs=(threads,)) as pool:
        futures = {pool.submit(train_one, recipe, runs, root, device): recipe for recipe in wanted}
        for count, future in enumerate(as_completed(futures), start=1):
            recipe = futures[future]
            if (error := future.exception()) is not None:
                failures.append(f"{recipe.name} seed {recipe.seed}: {type(error).__name__}: {error}")
            latest = f"{recipe.name} seed {recipe.seed}" if error is None else f"failed: {failures[-1]}"
            progress(count, len(wanted), latest)
    return failures


def _start_worker(threads: int) -> None:
    import torch

    torch.set_num_threads(min(threads, torch.get_num_threads()))  # never more than $OMP_NUM_THREADS asks for


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
        result = run.result()
        record = {key: getattr(recipe, key) for key in ("recipe", "model", "data", "regularizer", "seed")}
        for epoch in EPOCHS:
            record[f"{epoch}_epoch"] = result[epoch]["epoch"]
            record[f"{epoch}_val"] = 100 * result[epoch]["val_accuracy"]
            record[f"{epoch}_test"] = 100 * result[epoch]["test_accuracy"]
        records.append({**record, "seconds": result["seconds"], "settings": recipe.digest})
    return records


def known_records(path: Path) -> dict[str, dict[str, Any]]:
    """The records of a file that :func:`save` has written, by the digest of their recipes; none if there is no file."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    texts = ("recipe", "model", "data", "regularizer", "settings")
    whole = ("seed", *(f"{epoch}_epoch" for epoch in EPOCHS))
    return {
        row["settings"]: {k: v if k in texts else int(v) if k in whole else float(v) for k, v in row.items()}
        for row in rows
        if row.get("settings")
    }


def table(records: Sequence[dict[str, Any]], baseline: str = "none") -> list[Row]:
    """Rows in order of appearance. A difference to ``baseline`` is taken on the seeds that both have."""
    cells: dict[tuple[str, ...], dict[int, dict[str, Any]]] = {}
    for record in records:
        key = tuple(record[k] for k in ("recipe", "model", "data", "regularizer"))
        cells.setdefault(key, {})[record["seed"]] = record
    rows: list[dict[str, Any]] = []
    for epoch in EPOCHS:
        for key, seeds in cells.items():
            values = {seed: record[f"{epoch}_test"] for seed, record in seeds.items()}
            test, std = mean_std(list(values.values()))
            val = mean_std([record[f"{epoch}_val"] for record in seeds.values()])[0]
            row = dict(zip(("recipe", "model", "data", "regularizer"), key, strict=True))
            row |= {"epoch": epoch, "n": len(values), "val": val, "test": test, "std": std}
            row["seconds"] = mean_std([record["seconds"] for record in seeds.values()])[0]
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
    names = [f.name for f in fields(Row)] if not dicts else list(dicts[0])
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
        difference = f"{row.difference:+.2f}"
    if row.p_holm is not None and not math.isnan(row.p_holm):
        interval = f"{row.low:+.2f} to {row.high:+.2f}"
        p = "< 0.0001" if row.p_holm < 1e-4 else f"{row.p_holm:.4f}"
    figures = [str(row.n), f"{row.val:.2f}", test, difference, interval, p]
    return [row.model, row.data, row.regularizer, *figures]


HEADER = ["model", "data", "regularizer", "n", "val %", "test %", "difference", "95 % interval", "p (Holm)"]


def markdown(rows: Sequence[Row]) -> str:
    """Two Markdown tables, one for each rule of choosing the epoch."""
    parts = []
    for epoch, title in EPOCHS.items():
        lines = [HEADER, ["---"] * len(HEADER), *(cells_of(row) for row in rows if row.epoch == epoch)]
        parts.append(f"**{title.capitalize()}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(parts) + "\n"


def save(folder: Path, name: str, records: Sequence[dict[str, Any]], rows: Sequence[Row]) -> None:
    """``name.csv`` and ``name.md`` (the table) and ``name-runs.csv`` (every run) in ``folder``."""
    write_csv(folder / f"{name}-runs.csv", records)
    write_csv(folder / f"{name}.csv", rows)
    write(folder / f"{name}.md", markdown(rows))

"""The poster's tables: lists of recipes in order of value, and our figures beside the published ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comhe.train.recipe import Recipe, get_recipe
from comhe.train.runs.run import Run, run_folder

from .statistics import mean_std

# Lin et al., CVPR 2020, as printed: percent, single figures, null where the poster says that training did not converge.
PUBLISHED: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("published.json").read_text())
HEADER = ["model", "data", "regularizer", "published", "n", "last epoch", "validation-selected", "difference"]


@dataclass(frozen=True)
class Cell:
    """One figure of a table: accuracy or error in percent, as published; None where that did not converge."""

    model: str
    data: str
    regularizer: str
    published: float | None


def cells(table: str) -> list[Cell]:
    """A table's cells, the most informative first."""
    if table not in PUBLISHED:
        raise ValueError(f"there is no table {table!r}; there are {', '.join(PUBLISHED)}")
    found = []
    for name, figures in PUBLISHED[table]["cells"].items():
        model, data = name.split(".")
        names = PUBLISHED[table]["regularizers"]
        found += [Cell(model, data, names[i], figure) for i, figure in enumerate(figures)]
    return found


def recipes(table: str, seeds: int, name: str | None = None, **changes: Any) -> list[Recipe]:
    """The table's runs: a first seed of every cell before the second of any, so that whatever is cut has pairs."""
    name = name or PUBLISHED[table]["recipe"]
    wanted = cells(table)
    return [
        get_recipe(name, cell.model, cell.data, cell.regularizer, seed=seed, **changes)
        for seed in range(seeds)
        for cell in wanted
    ]


def beside(table: str, wanted: Sequence[Recipe], runs: Path) -> list[list[str]]:
    """Lines under :data:`HEADER`: our mean ± standard deviation over the runs that are done, the published figure, and
    the validation-selected mean less the published; a cell without a run says so."""
    is_error = PUBLISHED[table]["figure"] == "error"
    lines = []
    for cell in cells(table):
        results = []
        for recipe in wanted:
            mine = (recipe.model, recipe.data, recipe.regularizer) == (cell.model, cell.data, cell.regularizer)
            if mine and (run := Run(run_folder(runs, recipe))).done:
                if run.recipe() != recipe:
                    raise ValueError(f"{run.folder} holds a run of another recipe; choose another folder or remove it")
                results.append(run.result())
        line = [cell.model, cell.data, cell.regularizer, "did not converge"]
        if cell.published is not None:
            line[3] = f"{cell.published:.2f}"
        if not results:
            lines.append([*line, "0", "not run", "not run", ""])
            continue
        line.append(str(len(results)))
        for epoch in ("last", "best"):
            figures = [100 * result[epoch]["test_accuracy"] for result in results]
            mean, std = mean_std([100 - figure for figure in figures] if is_error else figures)
            line.append(f"{mean:.2f}" + (f" ± {std:.2f}" if len(figures) > 1 else ""))
        difference = "" if cell.published is None else f"{mean - cell.published:+.2f}"
        lines.append([*line, difference])
    return lines


def seconds_of(text: str) -> float:
    """Seconds of a span of time like ``90``, ``45s``, ``20m`` or ``1.5h``."""
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"a budget is a span of time like 90s, 20m or 1.5h, not {text!r}")
    return seconds

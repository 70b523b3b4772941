"""The paper's tables: lists of recipes, the most informative first, and our figures next to the published ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from comhe.errors import UsageError
from comhe.train.recipe import Recipe, did_you_mean, get_recipe
from comhe.train.runs.run import Run, run_folder

from .statistics import mean_std
from .sweep import check_settings, variants

# Lin et al., CVPR 2020, as printed: percent, single figures, null where the paper says that training did not converge.
PUBLISHED: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("published.json").read_text())
HEADER = ["model", "data", "regularizer", "published", "n", "last epoch", "validation-selected", "difference"]


@dataclass(frozen=True)
class Cell:
    """One published figure: accuracy or error in percent; None where training did not converge."""

    model: str
    data: str
    regularizer: str
    published: float | None


def cells(table: str) -> list[Cell]:
    """Return a table's cells, the most informative first.

    Raises:
        UsageError: If there is no such table.

    Example:
        >>> cells("gcn")[0]
        Cell(model='gcn', data='cora', regularizer='none', published=81.3)
    """
    if table not in PUBLISHED:
        raise UsageError(f"unknown table {table!r}; {did_you_mean(table, PUBLISHED)} (tables: {', '.join(PUBLISHED)})")
    found = []
    for name, figures in PUBLISHED[table]["cells"].items():
        model, data = name.split(".")
        names = PUBLISHED[table]["regularizers"]
        found += [Cell(model, data, names[i], figure) for i, figure in enumerate(figures)]
    return found


def recipes(
    table: str,
    seeds: int,
    recipe: str | None = None,
    settings: Mapping[str, Any] = MappingProxyType({}),
    first_seed: int = 0,
) -> list[Recipe]:
    """Return the table's runs: the first seed of every cell before the second of any, so that a cut leaves pairs.

    Raises:
        UsageError: If a name or setting does not exist, or a setting has several values.
    """
    named = [
        get_recipe(recipe or PUBLISHED[table]["recipe"], cell.model, cell.data, cell.regularizer)
        for cell in cells(table)
    ]
    check_settings(settings, named)
    if seeds < 1:
        raise UsageError(f"seeds must be at least 1, not {seeds}")
    changed = [variants(each, settings) for each in named]
    if any(len(each) > 1 for each in changed):
        raise UsageError("a published figure has one run of each seed to go with; give each setting one value")
    return [each.replace(seed=seed) for seed in range(first_seed, first_seed + seeds) for (each,) in changed]


def comparison_lines(table: str, wanted: Sequence[Recipe], runs: Path) -> list[list[str]]:
    """Return the lines of our figures and the published ones, under :data:`HEADER`.

    Ours are mean ± standard deviation over the finished runs; the difference is the validation-selected mean less the
    published figure. A cell without a finished run says so.
    """
    is_error = PUBLISHED[table]["figure"] == "error"
    lines = []
    for cell in cells(table):
        results = []
        for recipe in wanted:
            if (recipe.model, recipe.data, recipe.regularizer) == (cell.model, cell.data, cell.regularizer):
                run = Run(run_folder(runs, recipe))
                if run.done:
                    run.check(recipe)
                    results.append(run.result())
        published = "did not converge" if cell.published is None else f"{cell.published:.2f}"
        line = [cell.model, cell.data, cell.regularizer, published, str(len(results))]
        if not results:
            lines.append([*line, "not run", "not run", ""])
            continue
        for epoch in ("last", "best"):
            figures = [100 * result[epoch]["test_accuracy"] for result in results]
            mean, std = mean_std([100 - figure for figure in figures] if is_error else figures)
            line.append(f"{mean:.2f}" + (f" ± {std:.2f}" if len(figures) > 1 else ""))
        difference = "" if cell.published is None else f"{mean - cell.published:+.2f}"
        lines.append([*line, difference])
    return lines


def parse_duration(text: str) -> float:
    """Return the seconds of a duration like ``90``, ``45s``, ``20m`` or ``1.5h``.

    Raises:
        UsageError: If the text is not a positive duration.

    Example:
        >>> parse_duration("20m")
        1200.0
    """
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"a budget is a duration like 90s, 20m or 1.5h, not {text!r}")
    return seconds

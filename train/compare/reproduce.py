"""The paper's tables: lists of recipes, the most informative first, and our figures next to the published ones."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from comhe.errors import UsageError, did_you_mean
from comhe.train.recipe import Recipe, get_recipe
from comhe.train.runs.run import Run, run_folder
from comhe.train.settings import variants

from .records import CELL, EPOCHS, Record
from .statistics import mean_std

# Lin et al., CVPR 2020, as printed: percent, single figures, null where the paper says that training did not converge.
PUBLISHED: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("published.json").read_text())
HEADER = ["model", "data", "regularizer", "published", "n", "last epoch", "validation-selected", "difference"]
RECORDED_HEADER = [*HEADER[:4], "recipe", *HEADER[4:]]


class Cell(NamedTuple):
    """One published figure: accuracy or error in percent; None where training did not converge."""

    model: str
    data: str
    regularizer: str
    published: float | None


def cells(table: str) -> list[Cell]:
    """Return a table's cells, the most informative first."""
    if table not in PUBLISHED:
        raise UsageError(f"unknown table {table!r}; {did_you_mean(table, PUBLISHED)} (tables: {', '.join(PUBLISHED)})")
    names = PUBLISHED[table]["regularizers"]
    rows = [(*cell.split("."), figures) for cell, figures in PUBLISHED[table]["cells"].items()]
    return [Cell(model, data, *pair) for model, data, figures in rows for pair in zip(names, figures, strict=False)]


def recipes(
    table: str, seeds: Sequence[int], recipe: str | None = None, settings: Mapping[str, Any] = MappingProxyType({})
) -> list[Recipe]:
    """Return the table's runs: the first seed of every cell before the second of any, so that a cut leaves pairs."""
    name = recipe or PUBLISHED[table]["recipe"]
    named = [get_recipe(name, cell.model, cell.data, cell.regularizer) for cell in cells(table)]
    changed = variants(named, settings)
    if len(changed) > len(named):
        raise UsageError("a published figure is compared with one variant; give each setting one value")
    if not seeds:
        raise UsageError("a comparison needs at least one seed")
    return [each.replace(seed=seed) for seed in seeds for each in changed]


def comparison_lines(table: str, wanted: Sequence[Recipe], runs: Path) -> list[list[str]]:
    """Return lines under :data:`HEADER`: our mean ± deviation next to the published figure."""
    lines = []
    for cell in cells(table):
        figures = []
        for recipe in (each for each in wanted if (each.model, each.data, each.regularizer) == cell[:3]):
            if (run := Run(run_folder(runs, recipe))).done:
                run.check(recipe)
                result = run.result()
                figures.append([100 * result[epoch]["test_accuracy"] for epoch in EPOCHS])
        lines.append([*cell[:3], _published(cell), *_ours(table, cell, figures)])
    return lines


def recorded_lines(table: str, records: Iterable[Record]) -> list[list[str]]:
    """Return lines under :data:`RECORDED_HEADER`, of the finished runs in ``records``: one for each recipe of a cell.

    Runs with other settings than their recipe's, and those with fewer labels or wrong ones, are left out.
    """
    found: dict[tuple[str, ...], dict[str, list[list[float]]]] = {}
    for record in records:
        names = [record[key] for key in CELL]
        if not record.get("variant") and _has_all_labels(*names):
            by_recipe = found.setdefault((record["model"], record["data"], record["regularizer"]), {})
            by_recipe.setdefault(record["recipe"], []).append([record[f"{epoch}_test"] for epoch in EPOCHS])
    lines = []
    for cell in cells(table):
        for recipe, figures in sorted(found.get(cell[:3], {"": []}).items()):
            lines.append([*cell[:3], _published(cell), recipe, *_ours(table, cell, figures)])
    return lines


@cache
def _has_all_labels(name: str, model: str, data: str, regularizer: str) -> bool:
    """Whether the recipe of this name trains on all labels as they are; one that is not known here is taken to."""
    try:
        recipe = get_recipe(name, model, data, regularizer)
    except UsageError:
        return True
    return not recipe.labels_per_class and not recipe.label_noise


def _published(cell: Cell) -> str:
    return "did not converge" if cell.published is None else f"{cell.published:.2f}"


def _ours(table: str, cell: Cell, figures: Sequence[Sequence[float]]) -> list[str]:
    """Number of runs, mean ± deviation at each epoch, and the selected one's difference to the published figure."""
    if not figures:
        return ["0", "not run", "not run", ""]
    is_error = PUBLISHED[table]["figure"] == "error"
    line = [str(len(figures))]
    for values in zip(*figures, strict=True):
        mean, std = mean_std([100 - value for value in values] if is_error else values)
        line.append(f"{mean:.2f}" + (f" ± {std:.2f}" if len(values) > 1 else ""))
    return [*line, "" if cell.published is None else f"{mean - cell.published:+.2f}"]


def parse_duration(text: str) -> float:
    """Return the seconds of a duration like ``90``, ``45s``, ``20m`` or ``1.5h``."""
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    if not re.fullmatch(r"\d*\.?\d+", number) or float(number) == 0:
        raise UsageError(f"a budget is a duration like 90s, 20m or 1.5h, not {text!r}")
    return float(number) * unit

"""The page that ``comhe report`` writes."""

import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from comhe.train.compare.records import EPOCHS, Record
from comhe.train.compare.tables import Row, table, views
from comhe.train.runs.files import create_folder, write_text
from comhe.zoo import list_models, model_domain

from .figures import STYLE
from .gather import Findings
from .sections import Panel, Section, angle_histograms, costs, energies, enumerate_names, forests, learning

METHODS = ("none", "mhe", "hs-mhe", "rp-comhe", "ap-comhe", "adv-comhe", "group-comhe")
NAMES = ("regularizer", "settings", "data", "model", "recipe")  # columns; the first one stays in view


class Page:
    """One HTML file with the tables and figures of some runs, which needs nothing else."""

    def __init__(self, found: Findings) -> None:
        rows = rows_of(found.records)
        grouped: dict[tuple[str, str, str], list[Row]] = {}
        for row in rows:
            if row.epoch == "last":
                grouped.setdefault((row.recipe, row.model, row.data), []).append(row)
        panels = [Panel(*names, group) for names, group in grouped.items()]
        in_order = sorted(rows, key=lambda row: method_order(row.regularizer))
        methods = list(dict.fromkeys(row.method for row in in_order))
        colors = {name: i for i, name in enumerate(methods, start="none" not in methods)}  # the first is for `none`
        tables = dict(zip((*EPOCHS, "cost"), views(rows, NAMES), strict=False))
        cost = tables.pop("cost", None)
        columns = [[getattr(row, name) for row in in_order] for name in ("model", "data", "regularizer")]
        models, data, regularizers = (enumerate_names(dict.fromkeys(names)) for names in columns)
        self.title = f"{models} on {data}: {regularizers}"
        self.facts = _facts(found, rows)
        self.sections = [Section("Accuracy", tables=tables), forests(rows), costs(panels, colors, cost)]
        self.sections += [draw(found, panels, colors) for draw in (learning, energies, angle_histograms)]

    def html(self) -> str:
        loader = FileSystemLoader(Path(__file__).parent)
        environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
        return environment.get_template("page.html").render(page=self, style=STYLE.read_text())

    def save_figures(self, folder: Path) -> int:
        """Write every figure as an SVG file that is named by its title; return how many there are."""
        create_folder(folder)
        figures = [figure for section in self.sections for _, figure in section.figures]
        for figure in figures:
            name = re.sub(r"[^a-z0-9]+", "-", figure.title.lower()).strip("-")
            write_text(folder / f"{name}.svg", figure.file())
        return len(figures)


def rows_of(records: Sequence[Record]) -> list[Row]:
    """Return all rows, panel by panel; what one ``comhe compare`` could have trained is one family of tests."""
    panels = list(dict.fromkeys((r["recipe"], r["model"], r["data"]) for r in records))
    families: dict[tuple[str, str], list[Record]] = {}
    in_order = sorted(records, key=lambda r: method_order(r["regularizer"]))
    for record in sorted(in_order, key=lambda r: panels.index((r["recipe"], r["model"], r["data"]))):
        # A table may name a network that is not registered here.
        domain = model_domain(record["model"]) if record["model"] in list_models() else "custom"
        families.setdefault((record["recipe"], domain), []).append(record)
    return [row for family in families.values() for row in table(family)]


def method_order(regularizer: str) -> tuple[int, str]:
    """Sort `none` first, since the others are compared with it, then in the paper's order, baselines last."""
    return METHODS.index(regularizer) if regularizer in METHODS else len(METHODS), regularizer


def _facts(found: Findings, rows: Sequence[Row]) -> dict[str, str]:
    def noted(key: str) -> str:
        return ", ".join(dict.fromkeys(str(environment.get(key, "not noted")) for environment in found.environments))

    ns = sorted({row.n for row in rows})
    seeds = f"{ns[0]} to {ns[-1]}" if len(ns) > 1 else str(ns[0])
    facts = {"Finished runs": str(len(found.records)), "Cells": str(len(rows) // len(EPOCHS)), "Seeds of each": seeds}
    if found.environments:
        facts["Commit"] = noted("commit")
        facts["Machine"] = f"{noted('processor')}; device {noted('device')}; threads {noted('threads')}"
        facts["Versions"] = f"Python {noted('python')}, torch {noted('torch')}"
    unmeasured = sum(row.gflops is None for row in rows) // len(EPOCHS)
    reasons = {
        "runs from a table come without commit, machine and versions": len(found.environments) < len(found.records),
        f"runs left out because they are not finished: {found.unfinished}": found.unfinished,
        "a cell with one seed has neither standard deviation nor interval": ns[0] == 1,
        "cells differ in their number of seeds; differences use the seeds that both have": len(ns) > 1,
        "no differences, because there is no run of `none` on the same seeds": all(r.difference is None for r in rows),
        f"operations, step times and energies of {unmeasured} of the cells, from an older version": unmeasured,
    }
    missing = [reason for reason, holds in reasons.items() if holds]
    return facts | ({"Missing": "; ".join(missing)} if missing else {})

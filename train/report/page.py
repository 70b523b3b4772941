"""The page that ``comhe report`` writes."""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, Template

from comhe.train.compare.records import EPOCHS, Record
from comhe.train.compare.tables import Column, Row, Table, table, views
from comhe.train.runs.files import create_folder, write_text
from comhe.zoo import list_models, model_domain

from .figures import STYLE
from .gather import Findings
from .meanings import PAPER, Panel, enumerate_names, published, recipe_meanings, regularizer_meanings
from .sections import Section, angle_histograms, costs, doubts, energies, forests, learning, overview
from .sweeps import sweeps
from .verdict import headline, kind_of, verdicts

METHODS = ("none", "mhe", "hs-mhe", "rp-comhe", "ap-comhe", "adv-comhe", "group-comhe")
METHOD = Column("method", "method", lambda row: row.method, True)
ORDER = ("method", "test", "difference", "low", "p_holm", "n", "val", "published")  # what is on a phone's screen first
TIMES = ("step_ms", "penalty_ms", "seconds")


class Group(NamedTuple):
    """Rows of a table that are compared with one another, and which of them has the best mean test accuracy."""

    panel: Panel
    rows: Sequence[Row]
    best: float | None


class Page:
    """One HTML file with the tables and figures of some runs, which needs nothing else."""

    def __init__(self, found: Findings) -> None:
        rows = rows_of(found.records)
        grouped: dict[tuple[str, str, str], list[Row]] = {}
        for row in rows:
            if row.epoch == "last":
                grouped.setdefault((row.recipe, row.model, row.data), []).append(row)
        self.panels = panels = [Panel(*names, group) for names, group in grouped.items()]
        in_order = sorted(rows, key=lambda row: method_order(row.regularizer))
        methods = list(dict.fromkeys(row.method for row in in_order))
        colors = {name: i for i, name in enumerate(methods, start="none" not in methods)}  # the first is for `none`
        tables = dict(zip((*EPOCHS, "cost"), map(_arranged, views(rows, ())), strict=False))
        cost = tables.pop("cost", None)
        columns = {
            name: [getattr(row, name) for row in in_order] for name in ("recipe", "model", "data", "regularizer")
        }
        self.names = {name: list(dict.fromkeys(values)) for name, values in columns.items()}
        self.title = _title(self.names)
        self.headline, self.verdicts = headline(panels), verdicts(panels)
        self.doubts = doubts(found.records)
        self.recipes, self.regularizers = recipe_meanings(panels), regularizer_meanings(self.names["regularizer"])
        self.facts = _facts(found, rows)
        pairs = forests(rows)
        one = len({panel[:2] for panel in panels}) == 1  # then the first of its figures is the overview
        self.overview = pairs.figures[:1] if one else overview(panels)
        pairs.figures = pairs.figures[one:]
        swept = sweeps(rows)
        self.sections = [Section("Accuracy", tables=tables), pairs, *[swept] * bool(swept.figures)]
        self.sections.append(costs(found.records, panels, colors, cost))
        self.sections += [draw(found, panels, colors) for draw in (learning, energies, angle_histograms)]

    def html(self) -> str:
        return _template().render(page=self, style=STYLE.read_text(), times=TIMES)

    def groups(self, shown: Table) -> list[Group]:
        """Return a table's rows by what is compared with one another."""
        found = []
        for panel in self.panels:
            rows = [row for row in shown.rows if (row.recipe, row.model, row.data) == panel[:3]]
            if rows:
                best = max(row.test for row in rows) if len(rows) > 1 and shown.columns[1].key == "test" else None
                found.append(Group(panel, rows, best))
        return found

    def mark(self, row: Row, column: Column, best: float | None) -> str:
        """Return the class of a cell: the best of its group, a settled difference, or a time that is not a cost."""
        if column.key == "test" and best is not None and row.test == best:
            return "best"
        if column.key == "difference":
            return kind_of(row).replace("not settled", "")
        return "doubtful" if column.key in TIMES and (row.recipe, row.model, row.data) in self.doubts else ""

    def save_figures(self, folder: Path) -> int:
        """Write every figure as an SVG file that is named by its title; return how many there are."""
        create_folder(folder)
        figures = [*self.overview, *(figure for section in self.sections for figure in section.figures)]
        for figure in figures:
            write_text(folder / f"{figure_name(figure.drawing.title)}.svg", figure.drawing.file())
        return len(figures)


@cache
def _template() -> Template:
    loader = FileSystemLoader(Path(__file__).parent)
    return Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True).get_template("page.html")


def figure_name(title: str) -> str:
    """Return the name of a figure's file, without its ending.

    Example:
        >>> figure_name("kipf gcn: difference to none")
        'kipf-gcn-difference-to-none'
    """
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _title(names: dict[str, list[str]]) -> str:
    """Say what was compared: all names if they are few, else how many."""
    models, data = (
        enumerate_names(names[kind]) if len(names[kind]) <= 3 else f"{len(names[kind])} {words}"
        for kind, words in (("model", "networks"), ("data", "data sets"))
    )
    others = [name for name in names["regularizer"] if name != "none"]
    if not others:
        return f"{models} on {data}, without a regularizer"
    return f"{models} on {data}: {enumerate_names(others)}" + " against none" * ("none" in names["regularizer"])


def _arranged(shown: Table) -> Table:
    """The table for the page: the method first, then the test figures, and the paper's where it has some."""
    columns = [METHOD, *shown.columns]
    if any(column.key == "test" for column in columns):
        columns += [PAPER] if any(published(row) is not None for row in shown.rows) else []
        columns.sort(key=lambda column: ORDER.index(column.key))
    return replace(shown, columns=columns)


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
    facts = {"Finished runs": str(len(found.records)), "Rows": str(len(rows) // len(EPOCHS)), "Seeds of each": seeds}
    if found.environments:
        facts["Commit"] = noted("commit")
        facts["Machine"] = f"{noted('processor')}; device {noted('device')}; threads {noted('threads')}"
        facts["Versions"] = f"Python {noted('python')}, torch {noted('torch')}"
    unmeasured = sum(row.gflops is None for row in rows) // len(EPOCHS)
    reasons = {
        "runs from a table come without commit, machine and versions": len(found.environments) < len(found.records),
        f"runs left out because they are not finished: {found.unfinished}": found.unfinished,
        "a row of one seed has neither standard deviation nor interval": ns[0] == 1,
        "rows differ in their number of seeds; differences use the seeds that both have": len(ns) > 1,
        "no differences, because there is no run of `none` on the same seeds": all(r.difference is None for r in rows),
        f"operations, step times and energies of {unmeasured} of the rows, from an older version": unmeasured,
    }
    missing = [reason for reason, holds in reasons.items() if holds]
    return facts | ({"Missing": "; ".join(missing)} if missing else {})

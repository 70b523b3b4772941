"""The page that ``comhe report`` writes, and its figures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template

import torch

from comhe.train.compare.compare import CELL, EPOCHS, Row, cells_of, costs_of
from comhe.train.runs.run import Run

from .curves import over_seeds
from .page_tables import ACCURACY, COST, html_table, place, rows_of
from .plots import STYLE, Estimate, Figure, Series, forest, lines, scatter
from .report import Material, angles_before_and_after, cell

TEMPLATE = Path(__file__).with_name("page.html")
Panel = tuple[str, str, str]  # recipe, model, data


@dataclass
class Section:
    """A part of the page: words, then figures with their headings, then tables, which are HTML already."""

    title: str
    words: str
    figures: list[tuple[str, Figure]] = field(default_factory=list)
    tables: str = ""

    def html(self) -> str:
        shown = "".join(f"<figure><h3>{escape(name)}</h3>{figure.html()}</figure>" for name, figure in self.figures)
        grid = f'<div class="figures">{shown}</div>' if shown else ""
        return f"<section><h2>{escape(self.title)}</h2><p>{escape(self.words)}</p>{grid}{self.tables}</section>"


class Page:
    """What is shown of some runs."""

    def __init__(self, found: Material) -> None:
        panels = list(dict.fromkeys(tuple(record[k] for k in CELL[:3]) for record in found.records))
        rows = rows_of(found.records)
        names = sorted({row.regularizer for row in rows}, key=place)
        colours = {name: i for i, name in enumerate(names, start="none" not in names)}  # the first is the baseline's
        models, data = (_enumerate(dict.fromkeys(panel[i] for panel in panels)) for i in (1, 2))
        self.title = f"{models} on {data}: {_enumerate(names)}"
        self.header = _header(found, rows)
        self.sections = [
            _accuracies(rows),
            _forest(rows),
            _costs(rows, panels, colours),
            _learning(found, panels, colours),
            _energies(found, panels, colours),
            _angles(found, panels, colours),
        ]

    def html(self) -> str:
        """The whole page: one file that needs nothing else."""
        body = "\n".join([self.header, *(section.html() for section in self.sections)])
        return Template(TEMPLATE.read_text()).substitute(title=escape(self.title), style=STYLE.read_text(), body=body)

    def save_figures(self, folder: Path) -> int:
        """Every figure as an SVG file called by its title; returns how many."""
        folder.mkdir(parents=True, exist_ok=True)
        figures = [figure for section in self.sections for _, figure in section.figures]
        for figure in figures:
            name = re.sub(r"[^a-z0-9]+", "-", figure.title.lower()).strip("-")
            (folder / f"{name}.svg").write_text(figure.file(), encoding="utf-8")
        return len(figures)


def _enumerate(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _header(found: Material, rows: Sequence[Row]) -> str:
    def named(key: str) -> str:
        values = dict.fromkeys(str(environment.get(key, "not noted")) for environment in found.environments)
        return ", ".join(values)

    ns = sorted({row.n for row in rows})
    facts = {
        "Compared": f"{len(found.records)} finished run{'s' * (len(found.records) > 1)}: "
        f"{_cells(len(rows) // len(EPOCHS))} of recipe, model, data and regularizer, with "
        f"{ns[0] if len(ns) == 1 else f'{ns[0]} to {ns[-1]}'} seed{'s' * (ns[-1] > 1)} each",
    }
    if found.environments:
        facts["Commit"] = named("commit")
        facts["Machine"] = f"{named('processor')}; device {named('device')}; threads {named('threads')}"
        facts["Versions"] = f"Python {named('python')}, torch {named('torch')}"
    missing = []
    if len(found.runs) < len(found.records):
        missing.append("runs from a table come without commit, machine and versions")
    if found.unfinished:
        missing.append(f"left out because they are not done: {found.unfinished}")
    if ns[0] == 1:
        missing.append("a cell of one seed has neither deviation nor interval")
    if len(ns) > 1:
        missing.append("cells differ in their number of seeds; differences use the seeds that both have")
    if all(row.difference is None for row in rows):
        missing.append("no differences: there is no run of `none` on the same seeds")
    if unmeasured := sum(row.gflops is None for row in rows) // len(EPOCHS):
        missing.append(f"operations, times of a step and energies of {_cells(unmeasured)}, from an older version")
    if missing:
        facts["Missing"] = "; ".join(missing)
    items = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    return f"<dl>{items}</dl>"


def _cells(count: int) -> str:
    return f"{count} cell{'s' * (count > 1)}"


def _accuracies(rows: Sequence[Row]) -> Section:
    words = (
        "Test accuracy is mean ± standard deviation over the seeds. The difference is to the network without a "
        "regularizer (none) on the same seeds, with its 95\u00a0% interval (Student); p is the paired t-test's, "
        "corrected for all comparisons of the recipe in one domain (Holm). Nothing is selected on test. A click on a "
        "heading sorts."
    )
    tables = [
        html_table(
            epoch, f"{rule.capitalize()}, accuracy", ACCURACY, [row for row in rows if row.epoch == epoch], cells_of
        )
        for epoch, rule in EPOCHS.items()
    ]
    return Section("Accuracy", words, tables="".join(tables))


def _forest(rows: Sequence[Row]) -> Section:
    words = (
        "Each square is the mean difference in test accuracy to none on the same seeds; right of the dashed line is "
        "better. The bar is its 95\u00a0% interval, not corrected for the number of comparisons, and in colour where "
        "it leaves out 0. A square without a bar has one seed."
    )
    figures = []
    for recipe, model in dict.fromkeys((row.recipe, row.model) for row in rows):
        for epoch, rule in EPOCHS.items():
            estimates = [
                Estimate(
                    f"{row.data} {row.regularizer}",
                    row.difference,
                    *((row.low, row.high) if row.p == row.p else (None, None)),  # nan for one seed
                )
                for row in rows
                if (row.recipe, row.model, row.epoch) == (recipe, model, epoch) and row.difference is not None
            ]
            if estimates:
                title = f"{recipe} {model}: difference to none, {rule}"
                figure = forest(title, "difference in test accuracy (points)", estimates)
                figures.append((f"{recipe} {model}, {rule}", figure))
    return Section("Paired differences", words if figures else "No differences: `none` is not among the runs.", figures)


def _costs(rows: Sequence[Row], panels: Sequence[Panel], colours: dict[str, int]) -> Section:
    words = (
        "Mean cost against mean test accuracy of the last epoch; bars are one standard deviation. Left and up is "
        "better. The cost is a training step, penalty included, or a whole run where steps were not timed: as "
        "measured, with whatever else the machine was doing."
    )
    figures = []
    for panel in panels:
        mine = [row for row in rows if row.epoch == "last" and (row.recipe, row.model, row.data) == panel]
        cost, label = "step_ms", "milliseconds of a training step"
        if any(row.step_ms is None for row in mine):
            cost, label = "seconds", "seconds of a run"
        series = []
        for row in mine:
            x = getattr(row, cost)
            band = [(x, row.test - row.std, row.test + row.std)] if row.n > 1 else []
            series.append(Series(row.regularizer, colours[row.regularizer], [(x, row.test)], band))
        title = " ".join(panel)
        figures.append((title, scatter(f"{title}: accuracy against cost", label, "test accuracy (%)", series)))
    measured = [row for row in rows if row.epoch == "last" and row.gflops is not None]
    if not measured:
        return Section("Accuracy against cost", words, figures)
    more = (
        "Operations are those of one sample's forward pass, or of a whole graph's; the penalty is timed forward and "
        "backward. Energies are those before and after training: of the hidden layers their mean in the half space (a "
        "neuron and its negative count as one direction), of the output layer in the full space. Lower is more evenly "
        "spread."
    )
    shown = html_table("cost", "Cost, and energies before and after", COST, measured, costs_of)
    return Section("Accuracy against cost", words, figures, f"<p>{escape(more)}</p>{shown}")


def _curves(found: Material, panel: Panel, colours: dict[str, int], kind: str) -> list[Series]:
    series = []
    for name, colour in colours.items():
        curves = [run.get(kind, []) for run in found.curves.get((*panel, name), [])]
        if any(curves):
            series.append(Series(name, colour, *over_seeds(curves)))
    return series


def _learning(found: Material, panels: Sequence[Panel], colours: dict[str, int]) -> Section:
    words = "Validation accuracy after each epoch: the mean over seeds, and a band of one standard deviation."
    figures, missing = [], []
    for panel in panels:
        title = " ".join(panel)
        if series := _curves(found, panel, colours, "accuracy"):
            figures.append((title, lines(f"{title}: learning", "epochs", "validation accuracy (%)", series)))
        else:
            missing.append(title)
    if missing:
        words += f" Not shown for {_enumerate(missing)}: they need the run folders."
    return Section("Learning curves", words, figures)


def _energies(found: Material, panels: Sequence[Panel], colours: dict[str, int]) -> Section:
    words = (
        "How crowded the neurons are on the sphere, through training: lower is more evenly spread. First the mean over "
        "the hidden layers, in the half space (a neuron and its negative count as one direction), then the output "
        "layer, in the full space. Mean over seeds and a band of one standard deviation; at 0 the initial weights."
    )
    figures, missing = [], []
    for panel in panels:
        title = " ".join(panel)
        for role, what in (("hidden", "hidden layers, half space"), ("output", "output layer, full space")):
            if series := _curves(found, panel, colours, role):
                heading = f"{title}: energy, {what}"
                figures.append((heading, lines(heading, "epochs", "energy", series)))
            elif title not in missing:
                missing.append(title)
    if missing:
        words += f" Not noted in the runs of {_enumerate(missing)}: the setting energies=1 notes them."
    return Section("Hyperspherical energy", words, figures)


def _angles(found: Material, panels: Sequence[Panel], colours: dict[str, int]) -> Section:
    words = (
        "Angles between all pairs of neurons of the hidden layer with the most weights, before training (the recipe's "
        "initial weights, made again) and after the last epoch. Evenly spread neurons stand at about 90 degrees; "
        "small angles are neurons that say nearly the same."
    )
    figures, missing = [], {}
    for panel in panels:
        title = " ".join(panel)
        runs = [(recipe, folder) for recipe, folder in found.runs if cell(recipe)[:3] == panel]
        runs.sort(key=lambda run: place(run[0].regularizer))
        seed = min(recipe.seed for recipe, _ in runs) if runs else None
        found_angles: list[tuple[str, int, torch.Tensor]] = []
        for recipe, folder in runs:
            if recipe.seed != seed:
                continue
            try:
                layer, before, after = angles_before_and_after(Run(folder))
            except (ValueError, RuntimeError) as error:
                missing.setdefault(str(error).splitlines()[0], []).append(f"{title} {recipe.regularizer}")
                continue
            if not found_angles:  # all methods start from the same weights
                found_angles.append(("before training", 7, before))
            found_angles.append((recipe.regularizer, colours[recipe.regularizer], after))
        if found_angles:
            width = 2.0 if len(before) >= 1000 else 5.0  # degrees; few pairs make narrow bins jagged
            series = [Series(label, colour, histogram(values, width)) for label, colour, values in found_angles]
            label = f"share of pairs (% per {width:g}°)"
            name = f"{title}: {layer}, seed {seed}"
            figures.append((name, lines(f"{name}: angles", "angle between neurons (degrees)", label, series)))
    if not found.runs:
        words += " Not shown: they need the run folders."
    if missing:
        words += f" Left out: {'; '.join(f'{_enumerate(names)} ({reason})' for reason, names in missing.items())}."
    return Section("Angles between neurons", words, figures)


def histogram(values: torch.Tensor, width: float) -> list[tuple[float, float]]:
    """The share of values, in percent, in bins of ``width`` degrees from the first to the last that has any, as
    steps."""
    counts = torch.histc(values, bins=round(180 / width), min=0, max=180)
    filled = counts.nonzero()[:, 0]
    first, last = int(filled[0]), int(filled[-1])
    steps = [(first * width, 0.0)]
    for i in range(first, last + 1):
        share = 100 * float(counts[i]) / len(values)
        steps += [(i * width, share), ((i + 1) * width, share)]
    return [*steps, ((last + 1) * width, 0.0)]

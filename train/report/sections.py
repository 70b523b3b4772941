"""The parts of a report: figures and tables. Their texts are in the page's template, by title."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from comhe.errors import ComheError
from comhe.train.compare.curves import over_seeds
from comhe.train.compare.records import EPOCHS, Record
from comhe.train.compare.tables import Row, Table

from .angles import angles_before_and_after, histogram
from .cost import doubt
from .figures import Bounds, Drawing, Estimate, Series, forest, lines, scatter
from .gather import Findings
from .meanings import Panel, enumerate_names, published_difference
from .verdict import kind_of

Colors = Mapping[str, int]  # by method
PERCENT: Bounds = (0.0, 100.0)
ENERGY: Bounds = (0.25, None)  # a mean of 1 / d^2, and no distance on the sphere is above 2
POINTS = "difference in test accuracy (percentage points)"


class Figure(NamedTuple):
    """A drawing under a heading, and which of the runs it shows; an empty name stands for several."""

    heading: str
    drawing: Drawing
    recipe: str = ""
    model: str = ""
    data: str = ""


@dataclass
class Section:
    """Figures with their headings, what is missing, and tables by their ids."""

    title: str
    figures: list[Figure] = field(default_factory=list)
    missing: str = ""
    tables: Mapping[str, Table] = field(default_factory=dict)


def _estimate(label: str, row: Row) -> Estimate:
    ends = (row.low, row.high) if row.has_interval else (None, None)
    return Estimate(label, row.difference or 0.0, *ends, kind_of(row), published_difference(row))


def overview(panels: Sequence[Panel]) -> list[Figure]:
    """Return the figure of all differences at the last epoch, if there is any."""
    groups = {
        f"{panel.model} on {panel.data} ({panel.recipe})": [
            _estimate(row.method, row)._replace(paper=None) for row in panel.rows if row.difference is not None
        ]
        for panel in panels
    }
    groups = {name: estimates for name, estimates in groups.items() if estimates}
    if not groups:
        return []
    return [Figure("All differences, last epoch", forest("All differences to none, last epoch", POINTS, groups))]


def forests(rows: Sequence[Row]) -> Section:
    """Return the section with the differences to the unregularized network and their intervals."""
    figures = []
    for recipe, model in dict.fromkeys((row.recipe, row.model) for row in rows):
        for epoch, rule in EPOCHS.items():
            groups: dict[str, list[Estimate]] = {}
            for row in rows:
                if (row.recipe, row.model, row.epoch) == (recipe, model, epoch) and row.difference is not None:
                    groups.setdefault(row.data, []).append(_estimate(row.method, row))
            if groups:
                drawing = forest(f"{recipe} {model}: difference to none, {rule}", POINTS, groups)
                data = min(groups) if len(groups) == 1 else ""
                figures.append(Figure(f"{recipe} {model}, {rule}", drawing, recipe, model, data))
    return Section("Paired differences", figures, "" if figures else "There is no run without a regularizer.")


def doubts(records: Sequence[Record]) -> dict[tuple[str, str, str], str]:
    """Return why times are not a cost, by recipe, model and data set; nothing for those whose times are."""
    panels: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        panels.setdefault((record["recipe"], record["model"], record["data"]), []).append(record)
    return {names: reason for names, of_panel in panels.items() if (reason := doubt(of_panel))}


def costs(records: Sequence[Record], panels: Sequence[Panel], colors: Colors, table: Table | None) -> Section:
    """Return the section with accuracy against cost where times tell it, and the table of costs."""
    figures, left_out = [], doubts(records)
    for panel in panels:
        if panel[:3] in left_out:
            continue
        cost, label = "step_ms", "time of a training step (ms)"
        if any(row.step_ms is None for row in panel.rows):
            cost, label = "seconds", "time of a run (s)"
        series = []
        for row in panel.rows:
            x = getattr(row, cost)
            band = [(x, row.test - row.std, row.test + row.std)] if row.n > 1 else []
            series.append(Series(row.method, colors[row.method], [(x, row.test)], band))
        title = f"{panel.title}: accuracy against cost"
        drawing = scatter(title, label, "test accuracy (%)", series, PERCENT)
        figures.append(Figure(panel.title, drawing, *panel[:3]))
    by_reason: dict[str, list[str]] = {}
    for names, reason in left_out.items():
        by_reason.setdefault(reason, []).append(" ".join(names))
    missing = "; ".join(f"{enumerate_names(names)}: {reason}" for reason, names in by_reason.items())
    missing = f"Times that are not a cost, and so not drawn: {missing}." if missing else ""
    return Section("Accuracy against cost", figures, missing, {} if table is None else {"cost": table})


def learning(found: Findings, panels: Sequence[Panel], colors: Colors) -> Section:
    section = Section("Learning curves", missing="Not shown for {}: curves need the run folders.")
    return _curves(section, found, panels, colors, {"accuracy": "learning"}, "validation accuracy (%)", PERCENT)


def energies(found: Findings, panels: Sequence[Panel], colors: Colors) -> Section:
    kinds = {"hidden": "energy, hidden layers, half space", "output": "energy, output layer, full space"}
    section = Section(
        "Hyperspherical energy", missing="Not logged in the runs of {}; the setting energies=1 logs them."
    )
    return _curves(section, found, panels, colors, kinds, "energy", ENERGY)


def _curves(
    section: Section,
    found: Findings,
    panels: Sequence[Panel],
    colors: Colors,
    kinds: Mapping[str, str],
    label: str,
    bounds: Bounds,
) -> Section:
    """Add the figures of some kinds of curves; the section's reason gets the names of the panels that have none."""
    missing, fewer = [], []
    for panel in panels:
        for kind, title in kinds.items():
            curves = {row: [run[kind] for run in found.curves.get(row.cell, ()) if run.get(kind)] for row in panel.rows}
            series = [Series(r.method, colors[r.method], *over_seeds(c)) for r, c in curves.items() if c]
            name = f"{panel.title}: {title}"
            if series:
                drawing = lines(name, "epochs", label, series, bounds)
                heading = panel.title if kind == "accuracy" else name
                section.figures.append(Figure(heading, drawing, *panel[:3]))
            else:
                missing.append(panel.title)
            counts = {len(c) for c in curves.values()}
            if series and any(len(c) < row.n for row, c in curves.items()):
                fewer.append(f"{panel.title} ({min(counts)} of {max(row.n for row in curves)})")
    section.missing = section.missing.format(enumerate_names(dict.fromkeys(missing))) if missing else ""
    if fewer:
        section.missing += f" Not of all seeds: {enumerate_names(dict.fromkeys(fewer))}."
    return section


def angle_histograms(found: Findings, panels: Sequence[Panel], colors: Colors) -> Section:
    """Return the section with the angles between neurons, of the lowest seed of each panel."""
    figures: list[Figure] = []
    missing: dict[str, list[str]] = {}
    for panel in panels:
        runs = {row.method: {run.recipe().seed: run for run in found.runs.get(row.cell, ())} for row in panel.rows}
        seed = min((seed for seeds in runs.values() for seed in seeds), default=-1)
        shown: list[tuple[str, int, Tensor]] = []
        for method, run in ((method, seeds[seed]) for method, seeds in runs.items() if seed in seeds):
            try:
                layer, before, after = angles_before_and_after(run)
            except (ComheError, RuntimeError) as error:  # a model not imported here, state dicts of other shapes
                missing.setdefault(str(error).splitlines()[0], []).append(f"{panel.title} {method}")
                continue
            if not shown:  # all methods start from the same weights
                shown.append(("before training", 7, before))
            shown.append((method, colors[method], after))
        if shown:
            width = 2.0 if len(before) >= 1000 else 5.0  # degrees; few pairs make narrow bins jagged
            series = [Series(label, color, histogram(values, width)) for label, color, values in shown]
            name = f"{panel.title}: {layer}, seed {seed}"
            label = f"share of pairs (% per {width:g}°)"
            drawing = lines(f"{name}: angles", "angle between neurons (degrees)", label, series, (0.0, None))
            figures.append(Figure(name, drawing, *panel[:3]))
    notes = [] if found.runs else ["Not shown: they need the run folders."]
    notes += [f"Left out: {enumerate_names(names)} ({reason})." for reason, names in missing.items()]
    return Section("Angles between neurons", figures, " ".join(notes))

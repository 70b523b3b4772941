"""The parts of a report: figures and tables. Their texts are in the page's template, by title."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from comhe.errors import RunError
from comhe.train.compare.curves import over_seeds
from comhe.train.compare.records import EPOCHS
from comhe.train.compare.tables import Row, Table

from .angles import angles_before_and_after, histogram
from .figures import Drawing, Estimate, Series, forest, lines, scatter
from .gather import Findings

Colors = Mapping[str, int]  # by method


@dataclass
class Section:
    """Figures with their headings, what is missing, and tables by their ids."""

    title: str
    figures: list[tuple[str, Drawing]] = field(default_factory=list)
    missing: str = ""
    tables: Mapping[str, Table] = field(default_factory=dict)


class Panel(NamedTuple):
    """What is drawn in one figure: the methods of one recipe, model and data set, as rows for the last epoch."""

    recipe: str
    model: str
    data: str
    rows: Sequence[Row]

    @property
    def title(self) -> str:
        return f"{self.recipe} {self.model} {self.data}"


def enumerate_names(names: Iterable[str]) -> str:
    """Join names by commas and "and"."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def forests(rows: Sequence[Row]) -> Section:
    """Return the section with the differences to the unregularized network and their intervals."""
    figures = []
    for recipe, model in dict.fromkeys((row.recipe, row.model) for row in rows):
        for epoch, rule in EPOCHS.items():
            estimates = [
                Estimate(f"{r.data} {r.method}", r.difference, *((r.low, r.high) if r.has_interval else (None, None)))
                for r in rows
                if (r.recipe, r.model, r.epoch) == (recipe, model, epoch) and r.difference is not None
            ]
            if estimates:
                title = f"{recipe} {model}: difference to none, {rule}"
                drawing = forest(title, "difference in test accuracy (percentage points)", estimates)
                figures.append((f"{recipe} {model}, {rule}", drawing))
    return Section("Paired differences", figures, "" if figures else "There is no run without a regularizer.")


def costs(panels: Sequence[Panel], colors: Colors, table: Table | None) -> Section:
    """Return the section with accuracy against cost, and the table of costs if they were measured."""
    figures = []
    for panel in panels:
        cost, label = "step_ms", "time of a training step (ms)"
        if any(row.step_ms is None for row in panel.rows):
            cost, label = "seconds", "time of a run (s)"
        series = []
        for row in panel.rows:
            x = getattr(row, cost)
            band = [(x, row.test - row.std, row.test + row.std)] if row.n > 1 else []
            series.append(Series(row.method, colors[row.method], [(x, row.test)], band))
        title = f"{panel.title}: accuracy against cost"
        figures.append((panel.title, scatter(title, label, "test accuracy (%)", series)))
    return Section("Accuracy against cost", figures, tables={} if table is None else {"cost": table})


def learning(found: Findings, panels: Sequence[Panel], colors: Colors) -> Section:
    section = Section("Learning curves", missing="Not shown for {}: curves need the run folders.")
    return _curves(section, found, panels, colors, {"accuracy": "learning"}, "validation accuracy (%)")


def energies(found: Findings, panels: Sequence[Panel], colors: Colors) -> Section:
    kinds = {"hidden": "energy, hidden layers, half space", "output": "energy, output layer, full space"}
    reason = "Not logged in the runs of {}; the setting energies=1 logs them."
    return _curves(Section("Hyperspherical energy", missing=reason), found, panels, colors, kinds, "energy")


def _curves(
    section: Section, found: Findings, panels: Sequence[Panel], colors: Colors, kinds: Mapping[str, str], label: str
) -> Section:
    """Add the figures of some kinds of curves; the section's reason gets the names of the panels that have none."""
    missing = []
    for panel in panels:
        for kind, title in kinds.items():
            curves = {row: [run.get(kind, []) for run in found.curves.get(row.cell, ())] for row in panel.rows}
            series = [Series(r.method, colors[r.method], *over_seeds(c)) for r, c in curves.items() if any(c)]
            name = f"{panel.title}: {title}"
            if series:
                drawing = lines(name, "epochs", label, series)
                section.figures.append((panel.title if kind == "accuracy" else name, drawing))
            else:
                missing.append(panel.title)
    section.missing = section.missing.format(enumerate_names(dict.fromkeys(missing))) if missing else ""
    return section


def angle_histograms(found: Findings, panels: Sequence[Panel], colors: Colors) -> Section:
    """Return the section with the angles between neurons, of the lowest seed of each panel."""
    figures: list[tuple[str, Drawing]] = []
    missing: dict[str, list[str]] = {}
    for panel in panels:
        runs = {row.method: {run.recipe().seed: run for run in found.runs.get(row.cell, ())} for row in panel.rows}
        seed = min((seed for seeds in runs.values() for seed in seeds), default=-1)
        shown: list[tuple[str, int, Tensor]] = []
        for method, run in ((method, seeds[seed]) for method, seeds in runs.items() if seed in seeds):
            try:
                layer, before, after = angles_before_and_after(run)
            except (RunError, RuntimeError) as error:  # RuntimeError: state dicts of other shapes
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
            figures.append((name, lines(f"{name}: angles", "angle between neurons (degrees)", label, series)))
    notes = [] if found.runs else ["Not shown: they need the run folders."]
    notes += [f"Left out: {enumerate_names(names)} ({reason})." for reason, names in missing.items()]
    return Section("Angles between neurons", figures, " ".join(notes))

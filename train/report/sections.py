"""The parts of a report: text, figures and tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from comhe.errors import RunError
from comhe.train.compare.curves import over_seeds
from comhe.train.compare.records import EPOCHS
from comhe.train.compare.tables import Row, Table

from .angles import angles_before_and_after, histogram
from .figures import Drawing, Estimate, Series, forest, lines, scatter
from .gather import Findings

Colors = Mapping[str, int]  # by method

ACCURACY = """Test accuracy is the mean ± standard deviation over the seeds. The difference is to the network without a
regularizer (none) on the same seeds, at the same training settings, with its 95 % confidence interval (Student).
The p-value is that of the paired t-test, corrected for all comparisons of a recipe in one domain (Holm). Nothing is
selected on test data. Click a heading to sort by it."""
FORESTS = """Each square is the mean difference in test accuracy to none on the same seeds; right of the dashed line is
better. The bar is its 95 % confidence interval, not corrected for the number of comparisons, and in color if it
excludes 0. A square without a bar has one seed."""
COSTS = """Mean test accuracy of the last epoch against mean cost; bars are one standard deviation. Up and left is
better. The cost is the time of a training step including the penalty, or of the entire run if steps were not timed, as
measured while other programs may have been running."""
COST_TABLE = """GFLOP counts the forward pass of one sample, or of an entire graph; the penalty is timed forward and
backward. Energies are means before and after training, over the hidden layers in the half space (a neuron and its
negative count as one direction) and over the output layers in the full space. Lower is more evenly spread."""
LEARNING = "Validation accuracy after each epoch: mean over the seeds, and a band of one standard deviation."
ENERGIES = """Energy of the neurons on the sphere during training: lower is more evenly spread. First the mean over the
hidden layers in the half space (a neuron and its negative count as one direction), then the output layer in the full
space. Mean over the seeds and a band of one standard deviation; epoch 0 is the initialization."""
ANGLES = """Angles between all pairs of neurons of the hidden layer with the most weights, before training (the initial
weights, computed again) and after the last epoch. Evenly spread neurons are about 90 degrees apart; neurons at small
angles compute nearly the same."""


@dataclass
class Section:
    """Text, then figures with their headings, then a note, then tables by their ids."""

    title: str
    text: str
    figures: list[tuple[str, Drawing]] = field(default_factory=list)
    note: str = ""
    tables: Mapping[str, Table] = field(default_factory=dict)


@dataclass(frozen=True)
class Panel:
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


def accuracy(tables: Mapping[str, Table]) -> Section:
    """Return the section with the tables of accuracy."""
    return Section("Accuracy", ACCURACY, tables=tables)


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
    return Section("Paired differences", FORESTS if figures else "There is no run without a regularizer.", figures)


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
    note, tables = ("", {}) if table is None else (COST_TABLE, {"cost": table})
    return Section("Accuracy against cost", COSTS, figures, note, tables)


def learning(found: Findings, panels: Sequence[Panel], colors: Colors) -> Section:
    """Return the section with the learning curves."""
    figures, missing = _curves(found, panels, colors, {"accuracy": "learning"}, "validation accuracy (%)")
    text = f"{LEARNING} Not shown for {missing}: curves need the run folders." if missing else LEARNING
    return Section("Learning curves", text, figures)


def energies(found: Findings, panels: Sequence[Panel], colors: Colors) -> Section:
    """Return the section with the energies during training."""
    kinds = {"hidden": "energy, hidden layers, half space", "output": "energy, output layer, full space"}
    figures, missing = _curves(found, panels, colors, kinds, "energy")
    text = f"{ENERGIES} Not logged in the runs of {missing}; the setting energies=1 logs them." if missing else ENERGIES
    return Section("Hyperspherical energy", text, figures)


def _curves(
    found: Findings, panels: Sequence[Panel], colors: Colors, kinds: Mapping[str, str], label: str
) -> tuple[list[tuple[str, Drawing]], str]:
    """The figures of some kinds of curves, and the panels that have none."""
    figures, missing = [], []
    for panel in panels:
        for kind, title in kinds.items():
            curves = {row: [run.get(kind, []) for run in found.curves.get(row.cell, ())] for row in panel.rows}
            series = [Series(r.method, colors[r.method], *over_seeds(c)) for r, c in curves.items() if any(c)]
            name = f"{panel.title}: {title}"
            if series:
                heading = panel.title if kind == "accuracy" else name
                figures.append((heading, lines(name, "epochs", label, series)))
            elif panel.title not in missing:
                missing.append(panel.title)
    return figures, enumerate_names(missing) if missing else ""


def angle_histograms(found: Findings, panels: Sequence[Panel], colors: Colors) -> Section:
    """Return the section with the angles between neurons, of the lowest seed of each panel."""
    figures: list[tuple[str, Drawing]] = []
    missing: dict[str, list[str]] = {}
    for panel in panels:
        runs = {row.method: {run.recipe().seed: run for run in found.runs.get(row.cell, ())} for row in panel.rows}
        seed = min((seed for seeds in runs.values() for seed in seeds), default=None)
        shown: list[tuple[str, int, Tensor]] = []
        for method, seeds in runs.items():
            if seed not in seeds:
                continue
            try:
                layer, before, after = angles_before_and_after(seeds[seed])
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
    text = ANGLES if found.runs else f"{ANGLES} Not shown: they need the run folders."
    if missing:
        text += f" Left out: {'; '.join(f'{enumerate_names(names)} ({reason})' for reason, names in missing.items())}."
    return Section("Angles between neurons", text, figures)

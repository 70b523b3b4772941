"""The page that ``comhe report`` writes: one file that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from string import Template

import torch

from .compare import EPOCHS, HEADER, Row, cells_of, table
from .plots import Estimate, Series, forest, lines, scatter
from .report import CELL, Material, angles_before_and_after, cell, energy_curve, learning_curve, over_seeds

TEMPLATE = Path(__file__).with_name("page.html")
BIN = 2.0  # degrees
Panel = tuple[str, str, str]  # recipe, model, data


def render(found: Material, root: str | None = None) -> str:
    """The whole page."""
    # The cells of a panel stand together, `none` first: it is what the others differ from.
    panels = list(dict.fromkeys(tuple(record[k] for k in CELL[:3]) for record in found.records))
    order = {panel: place for place, panel in enumerate(panels)}
    rows = table(
        sorted(found.records, key=lambda r: (order[tuple(r[k] for k in CELL[:3])], r["regularizer"] != "none"))
    )
    names = list(dict.fromkeys(row.regularizer for row in rows))
    colours = {name: i for i, name in enumerate(names, start="none" not in names)}  # the first colour is the baseline's
    parts = [_header(found, rows), _tables(rows), _forest(rows), _cost(rows, panels, colours)]
    if found.runs:
        parts += [_learning(found, panels, colours), _energies(found, panels, colours)]
        parts.append(_angles(found, panels, colours, root))
    else:
        parts.append(
            _section("Curves", "Learning curves, energies and angles are not shown: they need the run folders.", [])
        )
    models, data = (" and ".join(dict.fromkeys(names)) for names in ([p[1] for p in panels], [p[2] for p in panels]))
    title = f"{models} on {data}: {', '.join(colours)}"
    return Template(TEMPLATE.read_text()).substitute(title=escape(title), body="\n".join(parts))


def _header(found: Material, rows: Sequence[Row]) -> str:
    def named(key: str) -> str:
        values = dict.fromkeys(str(environment.get(key, "not noted")) for environment in found.environments)
        return ", ".join(values)

    ns = sorted({row.n for row in rows})
    facts = {
        "Compared": f"{len(found.records)} finished runs, {len(rows) // len(EPOCHS)} cells of recipe, model, data and "
        f"regularizer, {ns[0] if len(ns) == 1 else f'{ns[0]} to {ns[-1]}'} seeds each",
    }
    if found.environments:
        facts["Commit"] = named("commit")
        facts["Machine"] = f"{named('processor')}; device {named('device')}; threads {named('threads')}"
        facts["Versions"] = f"Python {named('python')}, torch {named('torch')}"
    missing = []
    if len(found.runs) < len(found.records):
        missing.append("runs from a table come without commit, machine, versions and curves")
    if found.unfinished:
        missing.append(f"left out because they are not done: {found.unfinished}")
    if ns[0] == 1:
        missing.append("a cell of one seed has neither deviation nor interval")
    if len(ns) > 1:
        missing.append("cells differ in their number of seeds; differences use the seeds that both have")
    if all(row.difference is None for row in rows):
        missing.append("no differences: there is no run of `none` on the same seeds")
    facts["Missing"] = "; ".join(missing) or "nothing"
    items = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    return f"<dl>{items}</dl>"


def _section(title: str, words: str, figures: Sequence[str]) -> str:
    shown = f'<div class="figures">{"".join(figures)}</div>' if figures else ""
    return f"<section><h2>{escape(title)}</h2><p>{escape(words)}</p>{shown}</section>"


def _figure(title: str, svg: str) -> str:
    return f"<figure><h3>{escape(title)}</h3>{svg}</figure>"


def _tables(rows: Sequence[Row]) -> str:
    words = (
        "Accuracy in percent: test as mean ± standard deviation over n seeds. The difference is to none on the same "
        "seeds, with its 95 % interval (Student); p is the paired t-test's, corrected for all comparisons of one table "
        "(Holm). Nothing is selected on test. A click on a heading sorts."
    )
    keys = ("recipe", "model", "data", "regularizer", "n", "val", "test", "difference", "low", "p_holm")
    made = []
    for epoch, rule in EPOCHS.items():
        heads = "".join(
            f'<th scope="col" id="{epoch}-{key}" aria-sort="none"><button type="button">{escape(name)}</button></th>'
            for key, name in zip(keys, ["recipe", *HEADER], strict=True)
        )
        body = []
        for row in (row for row in rows if row.epoch == epoch):
            values = [getattr(row, key) for key in keys]
            sortable = ["" if v is None or (isinstance(v, float) and math.isnan(v)) else str(v) for v in values]
            texts = [row.recipe, *cells_of(row)]
            cells = (
                f'<td data-value="{escape(value)}">{escape(text)}</td>'
                for value, text in zip(sortable, texts, strict=True)
            )
            body.append(f"<tr>{''.join(cells)}</tr>")
        made.append(
            f'<div class="scroll" tabindex="0" role="region" aria-label="{rule}"><table id="{epoch}">'
            f"<caption>{rule.capitalize()}</caption><thead><tr>{heads}</tr></thead>"
            f"<tbody>{''.join(body)}</tbody></table></div>"
        )
    return f"<section><h2>Accuracy</h2><p>{escape(words)}</p>{''.join(made)}</section>"


def _forest(rows: Sequence[Row]) -> str:
    words = (
        "Each square is the mean paired difference in test accuracy to none; right of the dashed line is better. The "
        "bar is its 95 % interval, not corrected for the number of comparisons, and in colour where it leaves out 0. "
        "A square without a bar has one seed."
    )
    figures = []
    for epoch, rule in EPOCHS.items():
        shown = [row for row in rows if row.epoch == epoch and row.difference is not None]
        several = len({(row.recipe, row.model) for row in shown}) > 1
        estimates = [
            Estimate(
                f"{f'{row.recipe} {row.model} ' if several else ''}{row.data} {row.regularizer}",
                row.difference,
                *((row.low, row.high) if row.p == row.p else (None, None)),  # nan for one seed
            )
            for row in shown
        ]
        if estimates:
            label = "difference in test accuracy (percentage points)"
            figures.append(_figure(rule.capitalize(), forest(f"Paired differences, {rule}", label, estimates)))
    return _section(
        "Paired differences", words if figures else "No differences: `none` is not among the runs.", figures
    )


def _cost(rows: Sequence[Row], panels: Sequence[Panel], colours: dict[str, int]) -> str:
    words = (
        "Mean seconds of a whole run against mean test accuracy of the last epoch; bars are one standard deviation. "
        "Left and up is better. Seconds are as measured, with whatever else the machine was doing."
    )
    figures = []
    for panel in panels:
        series = []
        for row in rows:
            if row.epoch == "last" and (row.recipe, row.model, row.data) == panel:
                band = [(row.seconds, row.test - row.std, row.test + row.std)] if row.n > 1 else []
                series.append(Series(row.regularizer, colours[row.regularizer], [(row.seconds, row.test)], band))
        title = " ".join(panel)
        figures.append(_figure(title, scatter(f"Cost, {title}", "seconds of a run", "test accuracy (%)", series)))
    return _section("Accuracy against cost", words, figures)


def _curves(found: Material, panel: Panel, colours: dict[str, int], read: Callable) -> list[Series]:
    series = []
    for name, colour in colours.items():
        curves = [read(folder) for recipe, folder in found.runs if cell(recipe) == (*panel, name)]
        if any(curves):
            series.append(Series(name, colour, *over_seeds(curves)))
    return series


def _learning(found: Material, panels: Sequence[Panel], colours: dict[str, int]) -> str:
    words = "Validation accuracy after each epoch: the mean over seeds, and a band of one standard deviation."
    figures = []
    for panel in panels:
        title, series = " ".join(panel), _curves(found, panel, colours, learning_curve)
        if series:
            figures.append(_figure(title, lines(f"Learning, {title}", "epochs", "validation accuracy (%)", series)))
    return _section("Learning curves", words, figures)


def _energies(found: Material, panels: Sequence[Panel], colours: dict[str, int]) -> str:
    words = (
        "How crowded the neurons are on the sphere, through training: lower is more evenly spread. First the mean over "
        "the hidden layers, in the half space (a neuron and its negative count as one direction), then the output "
        "layer, in the full space. Mean over seeds and a band of one standard deviation; at 0 the initial weights."
    )
    figures, missing = [], []
    for panel in panels:
        title = " ".join(panel)
        for role, what in (("hidden", "hidden layers, half space"), ("output", "output layer, full space")):
            if series := _curves(found, panel, colours, energy_curve(role)):
                figures.append(
                    _figure(f"{title}: {what}", lines(f"Energy, {title}, {what}", "epochs", "energy", series))
                )
            else:
                missing.append(f"{title}: {what}")
    if missing:
        words += f" Not noted in the runs: {'; '.join(missing)} (the setting energies=1 notes them)."
    return _section("Hyperspherical energy", words, figures)


def _angles(found: Material, panels: Sequence[Panel], colours: dict[str, int], root: str | None) -> str:
    words = (
        "Angles between all pairs of neurons of the hidden layer with the most weights, before training (the recipe's "
        "initial weights, made again) and after the last epoch. Evenly spread neurons crowd at 90 degrees and beyond; "
        "small angles are neurons that say nearly the same."
    )
    figures, missing = [], []
    for panel in panels:
        title = " ".join(panel)
        runs = [(recipe, folder) for recipe, folder in found.runs if cell(recipe)[:3] == panel]
        seed = min(recipe.seed for recipe, _ in runs) if runs else None
        series: list[Series] = []
        for recipe, folder in runs:
            if recipe.seed != seed:
                continue
            try:
                layer, before, after = angles_before_and_after(recipe, folder, root)
            except (ValueError, OSError, RuntimeError) as error:
                missing.append(f"{title} {recipe.regularizer} ({str(error).splitlines()[0]})")
                continue
            if not series:  # all methods start from the same weights
                series.append(Series("before training", 7, histogram(before)))
            series.append(Series(recipe.regularizer, colours[recipe.regularizer], histogram(after)))
        if series:
            label = f"share of pairs (% per {BIN:g}°)"
            name = f"{title}: {layer}, seed {seed}"
            figures.append(_figure(name, lines(f"Angles, {name}", "angle between neurons (degrees)", label, series)))
    if missing:
        words += f" Left out: {'; '.join(missing)}."
    return _section("Angles between neurons", words, figures)


def histogram(values: torch.Tensor) -> list[tuple[float, float]]:
    """The share of values, in percent, in bins of :data:`BIN` from the first to the last that has any, as steps."""
    counts = torch.histc(values, bins=round(180 / BIN), min=0, max=180)
    filled = counts.nonzero()[:, 0]
    first, last = int(filled[0]), int(filled[-1])
    steps = [(first * BIN, 0.0)]
    for i in range(first, last + 1):
        share = 100 * float(counts[i]) / len(values)
        steps += [(i * BIN, share), ((i + 1) * BIN, share)]
    return [*steps, ((last + 1) * BIN, 0.0)]

"""Differences to the unregularized network against a swept setting: a weight, a depth, the number of labels."""

from collections.abc import Iterable, Sequence
from typing import Any

from comhe.errors import ComheError
from comhe.train.compare.records import EPOCHS
from comhe.train.compare.tables import Row
from comhe.train.recipe import get_recipe

from .figures import SOFT, Drawing, Series, lines
from .sections import Figure, Section

FEWEST = 3  # values that make a sweep
WITHOUT_ZERO = {"labels_per_class", "patience", "clip"}  # whose 0 is no number: all labels, no end, no limit
WIDE = 8.0  # from which ratio of the largest to the smallest value on the axis is logarithmic
Point = tuple[float, Row]


def sweeps(rows: Sequence[Row]) -> Section:
    """Return the section with a figure for each panel and each setting that has three numbers or more."""
    section = Section("Differences against a setting")
    panels = dict.fromkeys((row.recipe, row.model, row.data) for row in rows)
    for panel in panels:
        shown = [r for r in rows if (r.recipe, r.model, r.data) == panel and r.difference is not None]
        for name in dict.fromkeys(name for row in shown for name in settings_of(row)):
            for epoch, rule in EPOCHS.items():
                swept = _by_method((row for row in shown if row.epoch == epoch), name)
                if swept:
                    title = f"{' '.join(panel)}: difference to none against {name}, {rule}"
                    section.figures.append(Figure(title, _draw(title, name, swept), *panel))
    return section


def settings_of(row: Row) -> dict[str, str]:
    """Return the settings that differ from the row's recipe, as text; a tag has none."""
    return dict(item.split("=", 1) for item in row.settings.split() if "=" in item)


def _by_method(rows: Iterable[Row], name: str) -> dict[str, list[Point]]:
    """The values of a setting, in their order, and their rows, by the regularizer and all other settings."""
    found: dict[str, dict[float, Row]] = {}
    for row in rows:
        settings = settings_of(row)
        value = _number(settings.pop(name, _default(row, name)))
        if value is not None and (value or name not in WITHOUT_ZERO):
            label = " ".join([row.regularizer, *(f"{key}={text}" for key, text in settings.items())])
            found.setdefault(label, {})[value] = row
    return {label: sorted(points.items()) for label, points in found.items() if len(points) >= FEWEST}


def _default(row: Row, name: str) -> Any:
    """What the row's recipe has for a setting or an option; None if it has none or is not known here."""
    try:
        recipe = get_recipe(row.recipe, row.model, row.data, row.regularizer)
    except ComheError:
        return None
    options = {**recipe.model_options, **recipe.regularizer_options}
    return getattr(recipe, name, options.get(name))


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _draw(title: str, name: str, swept: dict[str, list[Point]]) -> Drawing:
    series = []
    for color, (label, points) in enumerate(swept.items(), 1):  # the first color is that of `none`
        band = [(x, r.low, r.high) for x, r in points if r.has_interval and r.low is not None and r.high is not None]
        series.append(Series(label, color, [(x, r.difference or 0.0) for x, r in points], band))
    drawing = lines(title, name, "difference (percentage points)", series)
    drawing.axes.axhline(0, color=SOFT, linestyle="--", linewidth=1)
    values = sorted({x for points in swept.values() for x, _ in points})
    if values[0] > 0 and values[-1] / values[0] >= WIDE:
        drawing.axes.set_xscale("log")
        drawing.axes.minorticks_off()
    drawing.axes.set_xticks(values, [f"{value:g}" for value in values])
    return drawing

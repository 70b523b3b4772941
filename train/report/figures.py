"""The report's figures: drawn by matplotlib, as SVG in the colors of the page that they are part of."""

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from comhe.errors import UsageError

STYLE = Path(__file__).with_name("figures.css")
# Stand-ins that become variables of figures.css, so that figures are legible on light and on dark.
VARIABLES = {f"#f0000{i}": f"var(--c{i})" for i in range(8)} | {"#f00010": "var(--soft)", "#f00011": "var(--rule)"}
COLORS, (SOFT, RULE) = list(VARIABLES)[:8], list(VARIABLES)[8:]
# One fewer than there are colors, so that both together tell more methods apart.
DASHES: list[Any] = [(0, (1, 2)), "-", (0, (5, 2)), (0, (6, 2, 1, 2)), (0, (9, 3)), (0, (3, 2)), "--"]
SETTINGS: Any = {
    **dict.fromkeys(("axes.labelcolor", "legend.labelcolor", "text.color", "xtick.color", "ytick.color"), SOFT),
    **dict.fromkeys(("axes.edgecolor", "grid.color"), RULE),
    **dict.fromkeys(("axes.axisbelow", "axes.grid", "figure.constrained_layout.use"), True),
    **dict.fromkeys(("axes.spines.right", "axes.spines.top", "legend.frameon"), False),
    "font.size": 9,
    "lines.linewidth": 1.6,
    "lines.markersize": 6,
    "svg.fonttype": "none",
    "svg.hashsalt": "comhe",
}


class Series(NamedTuple):
    """Points (x, y), with a band (x, low, high) around them where there is one; ``color`` is an index from 0."""

    label: str
    color: int
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float, float]] = ()


class Estimate(NamedTuple):
    """A difference and its interval, None where there is none."""

    label: str
    value: float
    low: float | None
    high: float | None


class Drawing:
    """A figure with one pair of axes, as part of a page or as a file."""

    def __init__(self, title: str, x_label: str, y_label: str, height: float = 3.4) -> None:
        self.title = title
        with _style():
            from matplotlib.figure import Figure

            self.figure = Figure(figsize=(5.6, height))
            self.axes = self.figure.add_subplot(xlabel=x_label, ylabel=y_label)

    def svg(self, style: str = "") -> str:
        """Return the figure as an ``<svg>`` element, the same on every call."""
        text = io.StringIO()
        with _style():
            if labels := self.axes.get_legend_handles_labels()[1]:
                self.figure.legends.clear()
                self.figure.legend(loc="outside upper left", ncols=min(4, len(labels)))
            nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            self.figure.savefig(text, format="svg", transparent=True, metadata=nothing)
        svg = text.getvalue()
        svg = svg[svg.index("<svg") :]
        for stand_in, variable in VARIABLES.items():
            svg = svg.replace(stand_in, variable)
        svg = re.sub(r' id="[\w.]+_\d+"', "", svg)  # of the parts; several figures of a page have the same
        svg = svg.replace("xlink:href", "href").replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")
        svg = re.sub(r"'DejaVu Sans'[^\";]*", "system-ui, sans-serif", svg)
        title = escape(self.title)
        return svg.replace(">", f' role="img" aria-label="{title}"><title>{title}</title>{style}', 1)

    def file(self) -> str:
        """Return an SVG file, light or dark as the reader's system is."""
        return self.svg(f"<style>{STYLE.read_text()}svg {{ background: var(--paper); }}</style>")


def lines(title: str, x_label: str, y_label: str, series: Sequence[Series]) -> Drawing:
    drawing = Drawing(title, x_label, y_label)
    for label, color, points, band in series:
        ink = COLORS[color % len(COLORS)]
        drawing.axes.plot(*zip(*points, strict=True), color=ink, ls=DASHES[color % len(DASHES)], label=label)
        if band:
            x, low, high = zip(*band, strict=True)
            drawing.axes.fill_between(x, low, high, color=ink, alpha=0.18, linewidth=0)
    drawing.axes.locator_params(axis="x", integer=all(x == round(x) for s in series for x, _ in s.points))
    return drawing


def scatter(title: str, x_label: str, y_label: str, series: Sequence[Series]) -> Drawing:
    """Draw points, each with a vertical bar where the series has a band."""
    drawing = Drawing(title, x_label, y_label)
    for label, color, points, band in series:
        ink = COLORS[color % len(COLORS)]
        for x, low, high in band:
            drawing.axes.plot([x, x], [low, high], color=ink)
        drawing.axes.plot(*zip(*points, strict=True), "o", color=ink, label=label)
    drawing.axes.set_xlim(left=0)
    return drawing


def forest(title: str, x_label: str, estimates: Sequence[Estimate]) -> Drawing:
    """Draw one line for each estimate: a square, its interval as a bar, both in color where that excludes 0."""
    drawing = Drawing(title, x_label, "", height=0.8 + 0.24 * len(estimates))
    axes = drawing.axes
    for row, (_, value, low, high) in enumerate(estimates):
        color = COLORS[0]
        if low is not None and high is not None:
            color = COLORS[0] if low <= 0 <= high else COLORS[1]
            axes.plot([low, high], [row, row], color=color)
        axes.plot([value], [row], "s", color=color)
    axes.axvline(0, color=SOFT, linestyle="--", linewidth=1)
    axes.set_yticks(range(len(estimates)), [e.label for e in estimates])
    axes.set_ylim(len(estimates) - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    return drawing


def _style() -> AbstractContextManager[None]:
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise UsageError("figures are drawn by matplotlib: pip install 'comhe[report]'") from error
    return rc_context(SETTINGS)

"""The report's figures: drawn by matplotlib, as SVG in the colors of the page that they are part of."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comhe.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE = Path(__file__).with_name("figures.css")
SIZE = (5.6, 3.4)  # inches, of 100 pixels each on the page
# Stand-ins that become variables of figures.css, so that figures are legible on light and on dark.
VARIABLES = {f"#f0000{i}": f"var(--c{i})" for i in range(8)} | {"#f00010": "var(--soft)", "#f00011": "var(--rule)"}
COLORS, (SOFT, RULE) = list(VARIABLES)[:8], list(VARIABLES)[8:]
DASHES = [(0, (1, 2)), "-", (0, (5, 2)), (0, (6, 2, 1, 2)), (0, (9, 3)), (0, (3, 2)), (0, (4, 2, 1, 1)), "-"]
SETTINGS: Any = {  # typed as a dict of literals by matplotlib
    "axes.edgecolor": RULE,
    "axes.grid": True,
    "axes.labelcolor": SOFT,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "grid.color": RULE,
    "legend.frameon": False,
    "legend.labelcolor": SOFT,
    "svg.fonttype": "none",
    "svg.hashsalt": "comhe",
    "text.color": SOFT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
}


@dataclass(frozen=True)
class Series:
    """Points (x, y), with a band (x, low, high) around them where there is one; ``color`` is an index from 0."""

    label: str
    color: int
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float, float]] = field(default=())


@dataclass(frozen=True)
class Estimate:
    """A difference and its interval, None where there is none."""

    label: str
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Drawing:
    """A figure with its title, as part of a page or as a file."""

    title: str
    figure: Any

    def svg(self, style: str = "") -> str:
        """Return the figure as an ``<svg>`` element, the same on every call."""
        from matplotlib import rc_context

        text = io.StringIO()
        with rc_context(SETTINGS):
            self.figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        svg = text.getvalue()
        svg = svg[svg.index("<svg") :]
        for stand_in, variable in VARIABLES.items():
            svg = svg.replace(stand_in, variable)
        svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
        svg = re.sub(r' id="[\w.]+_\d+"', "", svg)  # of the parts; several figures of a page have the same
        svg = svg.replace("xlink:href", "href").replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")
        svg = re.sub(r"'DejaVu Sans'[^\";]*", "system-ui, sans-serif", svg)
        title = escape(self.title)
        return re.sub(r">", f' role="img" aria-label="{title}"><title>{title}</title>{style}', svg, count=1)

    def file(self) -> str:
        """Return an SVG file, light or dark as the reader's system is."""
        return self.svg(f"<style>{STYLE.read_text()}svg {{ background: var(--paper); }}</style>")


def lines(title: str, x_label: str, y_label: str, series: Sequence[Series]) -> Drawing:
    """Draw curves, each with its band."""
    figure, axes = _axes(x_label, y_label)
    for s in series:
        x, y = zip(*s.points, strict=True)
        axes.plot(x, y, color=COLORS[s.color % 8], linestyle=DASHES[s.color % 8], linewidth=1.6, label=s.label)
        if s.band:
            at, low, high = zip(*s.band, strict=True)
            axes.fill_between(at, low, high, color=COLORS[s.color % 8], alpha=0.18, linewidth=0)
    if all(x == round(x) for s in series for x, _ in s.points):
        axes.locator_params(axis="x", integer=True)
    return _finish(title, figure, len(series))


def scatter(title: str, x_label: str, y_label: str, series: Sequence[Series]) -> Drawing:
    """Draw points, each with a vertical bar where the series has a band."""
    figure, axes = _axes(x_label, y_label)
    for s in series:
        for x, low, high in s.band:
            axes.plot([x, x], [low, high], color=COLORS[s.color % 8], linewidth=1.6)
        axes.plot(*zip(*s.points, strict=True), "o", color=COLORS[s.color % 8], markersize=6, label=s.label)
    axes.set_xlim(left=0)
    return _finish(title, figure, len(series))


def forest(title: str, x_label: str, estimates: Sequence[Estimate]) -> Drawing:
    """Draw one line for each estimate: a square, its interval as a bar, both in color where that excludes 0."""
    figure, axes = _axes(x_label, "", height=0.8 + 0.24 * len(estimates))
    for row, e in enumerate(estimates):
        is_sure = e.low is not None and e.high is not None and not e.low <= 0 <= e.high
        color = COLORS[1] if is_sure else COLORS[0]
        if e.low is not None and e.high is not None:
            axes.plot([e.low, e.high], [row, row], color=color, linewidth=1.6)
        axes.plot([e.value], [row], "s", color=color, markersize=6)
    axes.axvline(0, color=SOFT, linestyle="--", linewidth=1)
    axes.set_yticks(range(len(estimates)), [e.label for e in estimates])
    axes.set_ylim(len(estimates) - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    return Drawing(title, figure)


def _axes(x_label: str, y_label: str, height: float = SIZE[1]) -> tuple[Figure, Axes]:
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("figures are drawn by matplotlib: pip install 'comhe[report]'") from error
    with rc_context(SETTINGS):
        figure = Figure(figsize=(SIZE[0], height), dpi=100)
        axes = figure.add_subplot()
        axes.set_axisbelow(True)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
    return figure, axes


def _finish(title: str, figure: Figure, count: int) -> Drawing:
    from matplotlib import rc_context

    with rc_context(SETTINGS):
        figure.legend(loc="outside upper left", ncols=min(4, count))
    return Drawing(title, figure)

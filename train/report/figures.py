"""The report's figures: drawn by matplotlib, as SVG in the colors of the page that they are part of."""

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from html import escape
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

from comhe.errors import needs

STYLE = Path(__file__).with_name("figures.css")
# Stand-ins that become variables of figures.css, so that figures are legible on light and on dark.
VARIABLES = {f"#f0000{i}": f"var(--c{i})" for i in range(8)}
VARIABLES |= {"#f00010": "var(--soft)", "#f00011": "var(--rule)", "#f00012": "var(--paper)"}
VARIABLES |= {"#f00013": "var(--better)", "#f00014": "var(--worse)", "#f00015": "var(--ink)"}
COLORS, (SOFT, RULE, PAPER, BETTER, WORSE, INK) = list(VARIABLES)[:8], list(VARIABLES)[8:]
# Color and marker of an estimate: which side it lies on is told by both.
KINDS = {"better": (BETTER, ">"), "worse": (WORSE, "<"), "not settled": (SOFT, "s"), "the paper": (SOFT, "D")}
# One fewer than there are colors, so that both together tell more methods apart.
DASHES: list[Any] = [(0, (1, 2)), "-", (0, (5, 2)), (0, (6, 2, 1, 2)), (0, (9, 3)), (0, (3, 2)), "--"]
SETTINGS: Any = {
    **dict.fromkeys(("axes.labelcolor", "legend.labelcolor", "text.color", "xtick.color", "ytick.color"), SOFT),
    **dict.fromkeys(("axes.edgecolor", "grid.color"), RULE),
    **dict.fromkeys(("axes.axisbelow", "axes.grid", "figure.constrained_layout.use"), True),
    **dict.fromkeys(("axes.spines.right", "axes.spines.top", "legend.frameon"), False),
    "font.size": 9.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 6,
    "svg.fonttype": "none",
    "svg.hashsalt": "comhe",
}


WIDEST = 60  # letters of a legend's line; more leave no room to draw
FEW_POINTS = 5  # of which none can be called far from the others
Bounds = tuple[float | None, float | None]  # what is possible
Limits = tuple[float, float]


class Series(NamedTuple):
    """Points (x, y), with a band (x, low, high) around them where there is one; ``color`` is an index from 0."""

    label: str
    color: int
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float, float]] = ()


class Estimate(NamedTuple):
    """A difference and its interval, None where there is none; ``kind`` is one of :data:`KINDS`."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    kind: str = "not settled"
    paper: float | None = None


class Drawing:
    """A figure with one pair of axes, as part of a page or as a file."""

    def __init__(self, title: str, x_label: str, y_label: str, height: float = 3.3) -> None:
        self.title, self.height = title, height
        with _style():
            from matplotlib.figure import Figure

            self.figure = Figure(figsize=(4.8, height))
            self.axes = self.figure.add_subplot(xlabel=x_label, ylabel=y_label)

    def svg(self, style: str = "") -> str:
        """Return the figure as an ``<svg>`` element, the same on every call."""
        text = io.StringIO()
        with _style():
            handles, labels = self.axes.get_legend_handles_labels()
            if labels:
                labels = [fill(label, WIDEST) for label in labels]
                columns = min(3, len(labels), WIDEST // (max(map(len, labels)) + 4) or 1)
                rows = math.ceil(len(labels) / columns) * max(label.count("\n") + 1 for label in labels)
                self.figure.set_figheight(self.height + 0.2 * max(0, rows - 2))
                self.figure.legends.clear()
                self.figure.legend(handles, labels, loc="outside upper left", ncols=columns)
            nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            self.figure.savefig(text, format="svg", transparent=True, metadata=nothing)
        svg = text.getvalue()
        svg = svg[svg.index("<svg") :]
        for stand_in, variable in VARIABLES.items():
            svg = svg.replace(stand_in, variable)
        svg = re.sub(r' id="[\w.]+_\d+"', "", svg)  # of the parts; several figures of a page have the same
        svg = re.sub(r' (?:d|x|y|width|height|transform)="[^"]*"', lambda found: _short(found[0]), svg)
        svg = svg.replace("xlink:href", "href").replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")
        svg = re.sub(r"font-family: 'DejaVu Sans'[^\";]*;? ?", "", svg)  # the same for all, on the outside
        svg = re.sub(r' transform="rotate\(-0 [^"]*"|<defs/>', "", re.sub(r"\s+", " ", svg)).replace("> <", "><")
        title = escape(self.title)
        return svg.replace(
            ">",
            f' font-family="system-ui, sans-serif" role="img" aria-label="{title}"><title>{title}</title>{style}',
            1,
        )

    def file(self) -> str:
        """Return an SVG file, light or dark as the reader's system is."""
        return self.svg(f"<style>{STYLE.read_text()}svg {{ background: var(--paper); }}</style>")


def limits(
    values: Iterable[float],
    bounds: Bounds = (None, None),
    share: float = 0.05,
    reach: float = 1.5,
    ends: Iterable[float] = (),
) -> Limits:
    """Return the limits of an axis that shows values, but does not reach for the few that are far from all others.

    These are further from the range without the lowest and the highest ``share`` of them than ``reach`` times its
    length. ``bounds`` are what is possible: the limits do not go beyond. ``ends`` of bars are shown if they are near.

    Example:
        >>> limits([1.0] * 50 + [2.0] * 50 + [1000.0])
        (0.95, 2.05)
    """
    values = sorted(value for value in values if math.isfinite(value))
    if not values:
        return 0.0, 1.0
    count = math.ceil(share * (len(values) - 1)) if len(values) > FEW_POINTS else 0
    low, high = values[count], values[-1 - count]
    near = [x for x in (*values, *ends) if abs(x - (low + high) / 2) <= (0.5 + reach) * (high - low)]
    bottom, top = min(near, default=low), max(near, default=high)
    little = (top - bottom) / 4  # what would be cut off for so little is not
    bottom = values[0] if bottom - little <= values[0] < bottom else bottom
    top = values[-1] if top < values[-1] <= top + little else top
    margin = 0.05 * (top - bottom) or 0.05 * max(abs(top), 1e-3)
    lowest, highest = bounds
    bottom, top = bottom - margin, top + margin
    return bottom if lowest is None else max(bottom, lowest), top if highest is None else min(top, highest)


def lines(title: str, x_label: str, y_label: str, series: Sequence[Series], bounds: Bounds = (None, None)) -> Drawing:
    """Draw curves and their bands; nothing outside of the ``bounds`` of what is possible."""
    drawing = Drawing(title, x_label, y_label)
    for label, color, points, band in series:
        ink = COLORS[color % len(COLORS)]
        drawing.axes.plot(*zip(*points, strict=True), color=ink, ls=DASHES[color % len(DASHES)], label=label)
        if band:
            x, low, high = zip(*band, strict=True)
            bottom, top = ([_within(y, bounds) for y in side] for side in (low, high))
            drawing.axes.fill_between(x, bottom, top, color=ink, alpha=0.18, linewidth=0)
    drawing.axes.locator_params(axis="x", integer=all(x == round(x) for s in series for x, _ in s.points))
    _show(drawing, series, bounds)
    return drawing


def scatter(title: str, x_label: str, y_label: str, series: Sequence[Series], bounds: Bounds = (None, None)) -> Drawing:
    """Draw points, each with a vertical bar where the series has a band."""
    drawing = Drawing(title, x_label, y_label)
    for label, color, points, band in series:
        ink = COLORS[color % len(COLORS)]
        for x, low, high in band:
            drawing.axes.plot([x, x], [_within(low, bounds), _within(high, bounds)], color=ink)
        drawing.axes.plot(*zip(*points, strict=True), "o", color=ink, label=label)
    drawing.axes.set_xlim(left=0)
    _show(drawing, series, bounds)
    return drawing


def _within(y: float, bounds: Bounds) -> float:
    lowest, highest = bounds
    y = y if lowest is None else max(y, lowest)
    return y if highest is None else min(y, highest)


def _show(drawing: Drawing, series: Sequence[Series], bounds: Bounds) -> None:
    """Set the limits of the y axis, and say what is beyond them."""
    points = [y for s in series for _, y in s.points if math.isfinite(y)]
    ends = [_within(y, bounds) for s in series for _, *ends in s.band for y in ends]
    bottom, top = limits(points, bounds, ends=ends)
    drawing.axes.set_ylim(bottom, top)
    for beyond, text, place in (
        (
            max(points, default=top) > top,
            f"\u25b2 up to {max(points, default=0):.4g}, cut off",
            {"y": 0.98, "va": "top"},
        ),
        (min(points, default=bottom) < bottom, f"\u25bc down to {min(points, default=0):.4g}, cut off", {"y": 0.03}),
    ):
        if beyond:
            drawing.axes.text(
                0.99, s=text, ha="right", color=SOFT, fontsize=8, transform=drawing.axes.transAxes, **place
            )


def forest(title: str, x_label: str, groups: Mapping[str, Sequence[Estimate]]) -> Drawing:
    """Draw one line for each estimate, under the name of its group: a marker, and its interval as a bar.

    An interval that is far wider than the others ends in an arrow at the edge.
    """
    rows: list[Estimate | str] = []
    for name, estimates in groups.items():
        rows += [name, *estimates] if name else estimates
    found = [row for row in rows if isinstance(row, Estimate)]
    drawing = Drawing(title, x_label, "", height=1.15 + 0.225 * len(rows))
    axes = drawing.axes
    ends = [x for e in found for x in (e.value, e.low, e.high, e.paper) if x is not None]
    left, right = limits([*ends, 0.0], share=0.25, reach=3.0)
    left, right = min(left, 0.0), max(right, 0.0)
    axes.axvline(0, color=SOFT, linestyle="--", linewidth=1)
    for y, row in enumerate(rows):
        if isinstance(row, str):
            box = {"facecolor": PAPER, "edgecolor": "none", "pad": 1}
            axes.text(
                0.0, y, row, transform=axes.get_yaxis_transform(), va="center", weight="bold", color=INK, bbox=box
            )
            continue
        color, marker = KINDS[row.kind]
        if row.low is not None and row.high is not None:
            axes.plot([max(row.low, left), min(row.high, right)], [y, y], color=color)
            _arrows(drawing, y, color, row.low < left, row.high > right, (left, right))
        face = PAPER if row.kind == "not settled" else color
        axes.plot([min(max(row.value, left), right)], [y], marker, color=color, markerfacecolor=face, zorder=3)
        if not left <= row.value <= right:
            axes.annotate(f"{row.value:+.4g}", (0.5, y), xycoords=axes.get_yaxis_transform(), va="center", color=color)
        if row.paper is not None:
            color, marker = KINDS["the paper"]
            x = min(max(row.paper, left), right)
            axes.plot([x], [y], marker, color=color, markerfacecolor="none", markersize=5, clip_on=False)
    for kind, (color, marker) in KINDS.items():
        if any(e.kind == kind or (kind == "the paper" and e.paper is not None) for e in found):
            face = color if kind in ("better", "worse") else "none"
            axes.plot([], [], marker, color=color, markerfacecolor=face, label=kind)
    labeled = {y: row.label for y, row in enumerate(rows) if isinstance(row, Estimate)}
    axes.set_yticks(list(labeled), [fill(label, WIDEST // 2) for label in labeled.values()])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(left, right)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    return drawing


def _arrows(drawing: Drawing, y: int, color: str, is_left: bool, is_right: bool, ends: Limits) -> None:
    for is_cut, x, marker in ((is_left, ends[0], 4), (is_right, ends[1], 5)):  # matplotlib's carets
        if is_cut:
            drawing.axes.plot([x], [y], marker=marker, color=color, clip_on=False)


def _short(attribute: str) -> str:
    """Round coordinates to a hundredth of a point, and leave out the spaces around the letters of a path."""
    short = re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), attribute)
    return re.sub(r" ?([MLHVCSQTAZz]) ?", r"\1", short) if short.startswith(" d=") else short


def _style() -> AbstractContextManager[None]:
    with needs("report", "a figure"):
        from matplotlib import rc_context
    return rc_context(SETTINGS)

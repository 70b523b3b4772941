"""Plots as inline SVG, in the colours of the page that they stand in: CSS variables ``--c0`` ... and currentColor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

WIDTH, HEIGHT = 560, 320
LEFT, RIGHT, TOP, BOTTOM = 78, 16, 12, 48
DASHES = ("2 3", "none", "7 3", "9 3 2 3", "12 4", "4 2", "6 2 1 2", "none")  # told apart without colour as well
COLOURS = 8
STYLE = Path(__file__).with_name("plots.css")


@dataclass(frozen=True)
class Series:
    """Points (x, y), and for a band (x, low, high); ``colour`` counts from 0."""

    label: str
    colour: int
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float, float]] = field(default=())


@dataclass(frozen=True)
class Estimate:
    """A difference and its interval, None where there is none."""

    label: str
    value: float
    low: float | None
    high: float | None


def ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Round numbers from ``low`` to ``high``, about five of them, or only ``whole`` ones."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999 and not (whole and m == 2.5))
    step = max(step, 1.0) if whole else step
    return [round(i * step, 12) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def spread(values: Sequence[float], margin: float = 0.05) -> tuple[float, float]:
    """The range of values with some air around them; a single value gets a range too."""
    low, high = min(values), max(values)
    air = margin * (high - low) or max(abs(low) * 0.05, 1e-3)
    return low - air, high + air


class Axes:
    """A frame with ticks and labels, and the way from data to places in it."""

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        height: int = HEIGHT,
        left: int = LEFT,
        whole: bool = False,
    ) -> None:
        self.x_range, self.y_range, self.height, self.left = x, y, height, left
        self.whole = whole  # numbers on the x axis
        self.parts: list[str] = []

    def x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * (WIDTH - RIGHT - self.left)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.height - BOTTOM - (value - low) / (high - low) * (self.height - BOTTOM - TOP)

    def path(self, points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{self.x(x):.2f},{self.y(y):.2f}" for x, y in points)

    def inside(self, x_label: str, y_label: str = "", y_ticks: bool = True) -> str:
        """What a plot consists of: the frame, and everything that was put in ``parts``."""
        bottom, middle = self.height - BOTTOM, (self.height - BOTTOM + TOP) / 2
        frame = []
        for value in ticks(*self.x_range, self.whole):
            x = self.x(value)
            frame.append(f'<line class="grid" x1="{x:.2f}" x2="{x:.2f}" y1="{TOP}" y2="{bottom}"/>')
            frame.append(f'<text class="x tick" x="{x:.2f}" y="{bottom + 17}" text-anchor="middle">{value:g}</text>')
        for value in ticks(*self.y_range) if y_ticks else ():
            y = self.y(value)
            frame.append(f'<line class="grid" x1="{self.left}" x2="{WIDTH - RIGHT}" y1="{y:.2f}" y2="{y:.2f}"/>')
            frame.append(f'<text class="y tick" x="{self.left - 7}" y="{y + 4:.2f}" text-anchor="end">{value:g}</text>')
        centre = min((self.left + WIDTH - RIGHT) / 2, WIDTH - 4.7 * len(x_label))  # on a phone letters are larger
        frame.append(
            f'<text class="label" x="{centre}" y="{self.height - 8}" text-anchor="middle">{escape(x_label)}</text>'
        )
        if y_label:
            place = f'transform="translate(14 {middle}) rotate(-90)"'
            frame.append(f'<text class="label" {place} text-anchor="middle">{escape(y_label)}</text>')
        return "\n".join((*frame, *self.parts))


def colour(index: int) -> str:
    return f"var(--c{index % COLOURS})"


def swatch(series: Series, dot: bool) -> str:
    """A series' mark, 28 by 12."""
    ink = colour(series.colour)
    if dot:
        return f'<circle cx="14" cy="6" r="5" fill="{ink}"/>'
    dashes = DASHES[series.colour % COLOURS]
    return f'<line x1="1" x2="27" y1="6" y2="6" stroke="{ink}" stroke-width="2.5" stroke-dasharray="{dashes}"/>'


@dataclass(frozen=True)
class Figure:
    """A plot and its legend: part of a page, or a file of its own."""

    title: str
    height: int
    inside: str
    series: Sequence[Series] = ()
    dots: bool = False  # marks of the legend

    @property
    def svg(self) -> str:
        title = escape(self.title)
        return (
            f'<svg viewBox="0 0 {WIDTH} {self.height}" role="img" aria-label="{title}"><title>{title}</title>\n'
            f"{self.inside}\n</svg>"
        )

    def html(self) -> str:
        """Legend, which wraps on a phone, and plot."""
        if not self.series:
            return self.svg
        items = "".join(
            f'<li><svg class="key" viewBox="0 0 28 12" aria-hidden="true">{swatch(s, self.dots)}</svg>'
            f"{escape(s.label)}</li>"
            for s in self.series
        )
        return f'<ul class="legend">{items}</ul>{self.svg}'

    def file(self) -> str:
        """An SVG file with title and legend, light or dark as the reader's system is."""
        x, y, marks = 16, 34, []
        for s in self.series:
            width = 52 + 7 * len(s.label)
            if x + width > WIDTH:
                x, y = 16, y + 20
            text = f'<text class="name" x="34" y="10">{escape(s.label)}</text>'
            marks.append(f'<g transform="translate({x} {y})">{swatch(s, self.dots)}{text}</g>')
            x += width
        top = y + 16 if marks else 34
        title, height = escape(self.title), top + self.height
        size = min(15, 860 / len(self.title))  # of the title, so that it fits
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
            f'role="img" aria-label="{title}">\n<title>{title}</title>\n<style>\n{STYLE.read_text()}</style>\n'
            f'<rect class="paper" width="{WIDTH}" height="{height}"/>\n'
            f'<text class="title" style="font-size: {size:.1f}px" x="16" y="24">{title}</text>\n{"".join(marks)}\n'
            f'<g class="plot" transform="translate(0 {top})">\n{self.inside}\n</g>\n</svg>\n'
        )


def lines(title: str, x_label: str, y_label: str, series: Sequence[Series]) -> Figure:
    """Curves, each with its band where it has one."""
    xs = [x for s in series for x, _ in s.points]
    ys = [y for s in series for _, y in s.points] + [y for s in series for _, *both in s.band for y in both]
    axes = Axes(spread(xs, 0.02), spread(ys), whole=all(x == round(x) for x in xs))
    for s in series:
        if s.band:
            edge = [(x, high) for x, _, high in s.band] + [(x, low) for x, low, _ in reversed(s.band)]
            axes.parts.append(f'<polygon class="band" points="{axes.path(edge)}" fill="{colour(s.colour)}"/>')
    for s in series:
        axes.parts.append(
            f'<polyline data-series="{escape(s.label)}" points="{axes.path(s.points)}" fill="none" '
            f'stroke="{colour(s.colour)}" stroke-width="2" stroke-dasharray="{DASHES[s.colour % COLOURS]}"/>'
        )
    return Figure(title, axes.height, axes.inside(x_label, y_label), series)


def scatter(title: str, x_label: str, y_label: str, series: Sequence[Series]) -> Figure:
    """Points, each with a vertical bar from low to high where the series has a band."""
    xs = [x for s in series for x, _ in s.points]
    ys = [y for s in series for _, y in s.points] + [y for s in series for _, *both in s.band for y in both]
    axes = Axes((0.0, 1.08 * max(xs) or 1.0), spread(ys, 0.1))
    for s in series:
        for x, low, high in s.band:
            place = f'x1="{axes.x(x):.2f}" x2="{axes.x(x):.2f}" y1="{axes.y(low):.2f}" y2="{axes.y(high):.2f}"'
            axes.parts.append(f'<line class="bar" {place} stroke="{colour(s.colour)}"/>')
        for x, y in s.points:
            axes.parts.append(
                f'<circle data-series="{escape(s.label)}" cx="{axes.x(x):.2f}" cy="{axes.y(y):.2f}" r="5" '
                f'fill="{colour(s.colour)}"><title>{escape(s.label)}: {x:.3g}, {y:.2f}</title></circle>'
            )
    return Figure(title, axes.height, axes.inside(x_label, y_label), series, dots=True)


def forest(title: str, x_label: str, estimates: Sequence[Estimate]) -> Figure:
    """One line each: the estimate as a square, the interval as a bar, and a line at zero."""
    values = [v for e in estimates for v in (e.value, e.low, e.high) if v is not None]
    height = TOP + 24 * len(estimates) + BOTTOM
    left = min(340, 16 + max(int(10.3 * len(e.label)) for e in estimates))  # as wide as on a phone
    axes = Axes(spread([*values, 0.0]), (0.0, float(len(estimates))), height, left)
    axes.parts.append(
        f'<line class="zero" x1="{axes.x(0):.2f}" x2="{axes.x(0):.2f}" y1="{TOP}" y2="{height - BOTTOM}"/>'
    )
    for place, e in enumerate(estimates):
        y = axes.y(len(estimates) - place - 0.5)
        sure = e.low is not None and e.high is not None and not e.low <= 0 <= e.high
        ink = colour(1) if sure else "currentColor"
        axes.parts.append(
            f'<text class="name" x="{left - 8}" y="{y + 4:.2f}" text-anchor="end">{escape(e.label)}</text>'
        )
        if e.low is not None and e.high is not None:
            ends = f'x1="{axes.x(e.low):.2f}" x2="{axes.x(e.high):.2f}" y1="{y:.2f}" y2="{y:.2f}"'
            axes.parts.append(f'<line class="interval" {ends} stroke="{ink}"/>')
        mark = f'x="{axes.x(e.value) - 4:.2f}" y="{y - 4:.2f}" width="8" height="8"'
        axes.parts.append(f'<rect data-series="{escape(e.label)}" {mark} fill="{ink}"/>')
    return Figure(title, height, axes.inside(x_label, y_ticks=False))

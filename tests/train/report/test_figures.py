import sys
from xml.etree import ElementTree

import pytest

from comhe.errors import UsageError
from comhe.train.report.figures import COLORS, SOFT, Estimate, Series, forest, lines, scatter

CURVES = [
    Series("none", 0, [(0, 10.0), (5, 20.0), (10, 15.0)], [(0, 9.0, 11.0), (5, 18.0, 22.0), (10, 14.0, 16.0)]),
    Series("a < b", 1, [(0, 11.0), (10, 16.0)]),
]


def test_curves_lie_where_the_data_are():
    (axes,) = lines("t", "epochs", "accuracy", CURVES).figure.axes
    assert [[tuple(point) for point in line.get_xydata()] for line in axes.lines] == [s.points for s in CURVES]
    assert len(axes.collections) == 1  # one band
    assert axes.get_xlabel() == "epochs"


def test_a_point_has_a_bar_where_there_is_a_band():
    (axes,) = scatter("t", "ms", "%", [Series("a", 1, [(3.0, 80.0)], [(3.0, 79.0, 81.0)])]).figure.axes
    bar, point = axes.lines
    assert bar.get_xydata().tolist() == [[3.0, 79.0], [3.0, 81.0]]
    assert point.get_xydata().tolist() == [[3.0, 80.0]]
    assert axes.get_xlim()[0] == 0


def test_a_forest_draws_an_interval_only_where_there_is_one():
    estimates = [Estimate("a", 1.0, 0.5, 1.5), Estimate("b", -1.0, None, None), Estimate("c", 0.2, -0.3, 0.7)]
    (axes,) = forest("t", "x", estimates).figure.axes
    bars = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_color() != SOFT]
    assert [list(bar.get_xdata()) for bar in bars] == [[0.5, 1.5], [-0.3, 0.7]]
    assert [bar.get_color() for bar in bars] == [COLORS[1], COLORS[0]]  # in color where 0 is excluded
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]


def test_svg_is_the_same_each_time_and_takes_its_colors_from_the_page():
    svg = lines("x < y", "epochs", "accuracy", CURVES).svg()
    assert svg == lines("x < y", "epochs", "accuracy", CURVES).svg()
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == "x < y"
    texts = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"none", "a < b", "epochs", "accuracy"} <= texts
    assert "var(--c1)" in svg
    assert "#f0000" not in svg
    assert "#000000" not in svg
    assert "DejaVu" not in svg


def test_a_file_is_light_or_dark_as_the_system_is():
    text = lines("t", "epochs", "accuracy", CURVES).file()
    ElementTree.fromstring(text)
    assert "prefers-color-scheme: dark" in text


def test_matplotlib_is_asked_for_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install 'comhe\[report\]'"):
        lines("t", "x", "y", CURVES)

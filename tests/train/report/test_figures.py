import math
import sys
from xml.etree import ElementTree

import pytest

from comhe.errors import UsageError
from comhe.train.report.figures import BETTER, SOFT, WORSE, Estimate, Series, forest, limits, lines, scatter

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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [1, 2, 9])
def test_long_names_leave_room_to_draw(count):
    names = [f"rp-comhe batch_size={i} epochs=4 lr=0.002 optimizer=adam schedule=step:0.5,0.75" for i in range(count)]
    drawings = [lines("t", "x", "y", [Series(name, i, [(0, 1.0), (1, 2.0)]) for i, name in enumerate(names)])]
    drawings.append(forest("t", "x", {"a group": [Estimate(name, 1.0, 0.5, 1.5) for name in names]}))
    for drawing in drawings:
        drawing.svg()
        assert drawing.axes.get_position().width > 0.4
        assert drawing.axes.get_position().height > 0.3


def test_nothing_is_drawn_beyond_what_is_possible():
    low = [Series("a", 1, [(0, 0.2), (1, 0.1)], [(0, -0.3, 0.7), (1, -1.0, 1.2)])]
    (axes,) = lines("t", "x", "energy", low, (0.0, None)).figure.axes
    assert min(y for path in axes.collections[0].get_paths() for _, y in path.vertices) == 0
    assert axes.get_ylim()[0] == 0
    high = [Series("a", 1, [(1.0, 99.0)], [(1.0, 97.0, 101.0)])]
    (axes,) = scatter("t", "x", "%", high, (0.0, 100.0)).figure.axes
    assert axes.lines[0].get_ydata().tolist() == [97.0, 100.0]
    assert axes.get_ylim()[1] == 100


@pytest.mark.parametrize("count", [6, 12, 200])
@pytest.mark.parametrize("spike", [1e4, -1e4])
def test_one_spike_flattens_nothing_and_is_said(count, spike):
    values = [1 + 0.5 * math.sin(i) for i in range(count)]
    values[count // 2] = spike
    band = [(i, y - 0.1, y + 0.1) for i, y in enumerate(values)]
    (axes,) = lines("t", "epochs", "energy", [Series("a", 1, list(enumerate(values)), band)]).figure.axes
    bottom, top = axes.get_ylim()
    assert -2 < bottom < 0.6
    assert 1.4 < top < 4
    (text,) = [text.get_text() for text in axes.texts]
    assert f"{spike:.4g}, cut off" in text


def test_limits_hold_all_values_where_none_is_far_away():
    for values in ([1.0], [3.0, 3.0], [1.0, 2.0, 1000.0], list(range(30)), [10, 40, 60, 70, 75, 80]):
        bottom, top = limits(values)
        assert bottom < min(values) <= max(values) < top
    assert limits([math.nan, math.inf]) == (0.0, 1.0)


def test_a_forest_draws_an_interval_only_where_there_is_one_and_tells_sides_by_color_and_marker():
    estimates = {
        "one": [Estimate("a", 1.0, 0.5, 1.5, "better"), Estimate("b", -1.0)],
        "two": [Estimate("c", -0.2, -0.4, -0.1, "worse", paper=0.9), Estimate("d", 0.1, -0.3, 0.7)],
    }
    (axes,) = forest("t", "x", estimates).figure.axes
    bars = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"]
    assert [list(bar.get_xdata()) for bar in bars] == [[0.5, 1.5], [-0.4, -0.1], [-0.3, 0.7]]
    assert [bar.get_color() for bar in bars] == [BETTER, WORSE, SOFT]
    labels = {line.get_label(): line.get_marker() for line in axes.lines if not line.get_label().startswith("_")}
    assert len(set(labels.values())) == len(labels) == 4
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c", "d"]
    assert [text.get_text() for text in axes.texts] == ["one", "two"]


def test_an_interval_that_is_far_wider_than_the_others_ends_in_an_arrow():
    estimates = [Estimate(str(i), 0.1 * i, 0.1 * i - 0.5, 0.1 * i + 0.5) for i in range(8)]
    (axes,) = forest("t", "x", {"": [*estimates, Estimate("wide", 0.0, -500.0, 500.0)]}).figure.axes
    left, right = axes.get_xlim()
    assert -6 < left < right < 6
    assert [line.get_xdata()[0] for line in axes.lines if line.get_marker() in (4, 5)] == [left, right]


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

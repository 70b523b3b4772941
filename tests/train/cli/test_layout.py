"""No table loses a figure at 80 and at 60 columns, whatever its names are."""

import re

import pytest

from comhe.regularizers.diagnostics import TITLES
from comhe.train.cli import demo
from comhe.train.cli.layout import lay_out
from comhe.train.compare.reproduce import HEADER
from comhe.train.compare.tables import Row, views

WIDTHS = (40, 60, 80, 100, 160)
LONG = {
    "short": ("gcn", "cora", "rp-comhe", ""),
    "long": (
        "resnet32_wide_of_somebody_who_likes_long_names",
        "folder-random3:/home/somebody/photographs/of-birds/by-species",
        "group-comhe",
        "batch_size=256 epochs=200 label_smoothing=0.1 lr=0.05 weight=0.25",
    ),
}


def rows(names):
    model, data, name, settings = names
    base = Row("modern", model, data, "none", "last", 5, 80.123, 81.25, 0.87, seconds=12345.6, settings=settings)
    costs = {"parameters": 36_536_884, "gflops": 1234.5, "step_ms": 1234.5, "penalty_ms": 0.123}
    costs |= {"hidden_start": 1.23456, "hidden_end": 0.98765, "output_start": 12.3456, "output_end": 0.00012}
    figures = {"difference": -10.25, "low": -12.34, "high": 10.57, "p": 0.01, "p_holm": 0.00001}
    other = Row("modern", model, data, name, "last", 5, 80.1, 71.0, 10.9, settings=settings, **figures, **costs)
    best = [Row(**{**vars(row), "epoch": "best"}) for row in (base, other)]
    return [base, other, *best]


def tables():
    for kind, names in LONG.items():
        for table in views(rows(names)):
            yield f"{kind} {table.title}", table.header, table.cells
        line = [*names[:3], "did not converge", "5", "81.25 ± 0.87", "81.25 ± 0.87", "-10.25"]
        yield f"{kind} reproduce", HEADER, [line, line]
        energies = ["layer3.17.bottleneck.conv2.weight", "1024 x 36864", *["0.0001235"] * (len(TITLES) - 1), "1024"]
        yield f"{kind} energy", ["layer", "neurons", *TITLES], [energies, energies]
        yield (
            f"{kind} weights",
            ["weights", "data", "test %", "mean %", "std %", "seeds", "MB"],
            [[f"{names[0]}.{names[1]}", names[1], "81.25", "81.25", "10.87", "100", "1,234.56"]],
        )
        yield (
            f"{kind} list",
            ["model", "domain", "parameters", "weights", "what it is"],
            [[names[0], "images, points, graphs", "36,536,884", "100", "Words " * 30]],
        )
        yield f"{kind} settings", ["setting", "value", "what it is"], [["schedule", names[3] or "-", "Words " * 20]]
    table = demo.summary([Row(**{**vars(row), "model": "gcn", "data": "citations"}) for row in rows(LONG["short"])])
    yield "demo", table.header, table.cells


TABLES = {name: (header, cells) for name, header, cells in tables()}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", TABLES)
def test_nothing_is_lost_and_every_line_fits(name, width):
    header, cells = TABLES[name]
    shown = lay_out("A title that says what this is", header, cells, width, "A note. " * 20)
    lines = shown.splitlines()
    assert all(len(line) <= width for line in lines), max(lines, key=len)
    assert "…" not in shown
    assert "..." not in shown
    joined, words = "".join(shown.split()), " ".join(shown.split())
    for row in cells:
        for cell in row:
            if re.match(r"[-+<]?\d", cell) and len(cell) < 30:
                assert any(cell in line for line in lines), f"{cell} is broken"
            elif " " not in cell:
                assert cell in joined, f"{cell} is cut"
            else:
                assert all(word in joined for word in cell.split()), words


def test_a_table_that_fits_stays_a_table():
    shown = lay_out("", ["model", "n", "what it is"], [["gcn", "5", "a b"], ["resnet20", "10", "c"]], 80)
    assert shown.splitlines() == [
        "model      n  what it is",
        "────────────────────────",
        "gcn        5  a b",
        "resnet20  10  c",
    ]


def test_without_a_width_nothing_is_wrapped():
    header, cells = TABLES["long last epoch, accuracy"]
    assert all(any(cell in line for line in lay_out("", header, cells).splitlines()) for row in cells for cell in row)


def test_no_rows_are_a_heading():
    assert lay_out("", ["model", "n"], [], 60).splitlines()[0] == "model  n"


def test_a_block_has_each_figure_with_its_heading():
    header, cells = TABLES["long last epoch, accuracy"]
    shown = lay_out("", header, cells, 60)
    assert "test %: 71.00 ± 10.90" in shown
    assert "95 % interval: -12.34 to +10.57" in shown
    assert "p (Holm): < 0.0001" in shown

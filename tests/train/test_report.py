import csv
import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
import torch

from comhe.train.cli.main import main
from comhe.train.compare.compare import EPOCHS, cells_of, costs_of, save, table, train_one, write_csv
from comhe.train.report.curves import over_seeds, save_curves
from comhe.train.report.page import Page, histogram
from comhe.train.report.page_tables import ACCURACY, NAMES
from comhe.train.report.plots import Axes, Estimate, Series, forest, lines, ticks
from comhe.train.report.report import Material, angles, angles_before_and_after, gather
from comhe.train.runs.run import Run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
]


def _records(seeds: int = 4) -> list[dict]:
    records = []
    for shift, regularizer in enumerate(("none", "hs-mhe", "rp-comhe")):
        for seed in range(seeds):
            figures = {
                f"{e}_{s}": 80.0 + seed + shift + 0.1 * (seed * shift % 3) for e in EPOCHS for s in ("val", "test")
            }
            cell = {"recipe": "kipf", "model": "gcn", "data": "co<b>ra", "regularizer": regularizer}
            records.append({**cell, "seed": seed, **figures, "seconds": 1.0 + shift})
    return records


@pytest.fixture
def page(tmp_path):
    """A page made of a table of runs."""
    write_csv(tmp_path / "kipf-runs.csv", _records())
    assert main(["report", str(tmp_path / "kipf-runs.csv"), "-o", str(tmp_path / "page.html")]) == 0
    return tmp_path / "page.html"


WIDTH = len(NAMES) + len(ACCURACY)


class Cells(HTMLParser):
    """The text of every cell of the tables' bodies, without what is small."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.inside = tag == "td" or ("scope", "row") in attributes
        if self.inside:
            self.cells.append("")

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.cells[-1] += data


def test_tables_hold_the_comparison(page):
    rows = table(_records())
    expected = [cell for row in rows for cell in (row.regularizer, row.data, row.model, row.recipe, *cells_of(row)[3:])]
    assert Cells(page.read_text()).cells == expected


def test_each_recipe_is_a_family_of_tests_as_in_compare():
    other = [record | {"recipe": "tuned"} for record in _records()]
    together = Cells(Page(Material(records=_records() + other)).html()).cells[WIDTH - 1 :: WIDTH]
    alone = [[cells_of(row)[-1] for row in table(records) if row.epoch == "last"] for records in (_records(), other)]
    assert together[:6] == alone[0] + alone[1]


def test_page_asks_nothing_of_a_network_and_escapes_names(page):
    text = page.read_text()
    assert not re.search(r"https?:|src=|@import|url\(|<link", text)
    assert "co<b>ra" not in text
    assert "co&lt;b&gt;ra" in text
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(svg)


def test_curves_lie_where_the_data_are():
    svg = lines("t", "x", "y", [Series("a", 1, [(0, 10.0), (5, 20.0), (10, 15.0)])]).svg
    root = ElementTree.fromstring(svg)
    points = [tuple(map(float, p.split(","))) for p in root.find("polyline").get("points").split()]
    places = {
        axis: {float(t.text): float(t.get(axis)) for t in root.iter("text") if t.get("class") == f"{axis} tick"}
        for axis in "xy"
    }
    assert points[0][0] == pytest.approx(places["x"][0])
    assert points[2][0] == pytest.approx(places["x"][10])
    for (_, y), value in zip(points, (10.0, 20.0), strict=False):
        assert y + 4 == pytest.approx(places["y"][value], abs=0.02)  # a label's baseline is 4 below its tick


def test_forest_draws_an_interval_only_where_there_is_one():
    root = ElementTree.fromstring(forest("t", "x", [Estimate("a", 1.0, 0.5, 1.5), Estimate("b", -1.0, None, None)]).svg)
    bars = [line for line in root.iter("line") if line.get("class") == "interval"]
    squares = {r.get("data-series"): float(r.get("x")) + 4 for r in root.iter("rect")}
    zero = next(float(line.get("x1")) for line in root.iter("line") if line.get("class") == "zero")
    assert len(bars) == 1
    assert (float(bars[0].get("x1")) + float(bars[0].get("x2"))) / 2 == pytest.approx(squares["a"], abs=0.02)
    assert squares["b"] < zero < squares["a"]


def test_ticks_are_round_and_inside():
    assert ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(-0.03, 0.021) == [-0.02, 0.0, 0.02]
    assert ticks(0.98, 2.02, whole=True) == [1, 2]
    axes = Axes((0.0, 1.0), (0.0, 1.0))
    assert axes.y(1.0) < axes.y(0.0)


def test_bands_are_one_deviation_and_one_seed_has_none():
    middle, band = over_seeds([[(1, 2.0)], [(1, 4.0)]])
    assert middle == [(1, 3.0)]
    assert band == [(1, pytest.approx(3 - math.sqrt(2)), pytest.approx(3 + math.sqrt(2)))]
    assert over_seeds([[(1, 2.0)]]) == ([(1, 2.0)], [])


def test_angles_and_their_histogram():
    found = angles(torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]]))
    assert sorted(found.tolist()) == pytest.approx([90, 90, 180])
    shares = dict(histogram(torch.tensor([91.0, 91.5, 100.5, 10.0]), 2.0))
    assert shares[91.0 // 2 * 2 + 2] in (50.0, 0.0)
    assert max(shares.values()) == 50.0


@pytest.fixture
def runs(tmp_path, recipe):
    """A folder with two seeds, with and without a regularizer."""
    for regularizer in ("none", "hs-mhe"):
        for seed in range(2):
            made = recipe.replace(regularizer=regularizer, seed=seed, epochs=3, energies=1, regularizer_options={})
            train_one(made, tmp_path / "runs", None, "cpu")
    return tmp_path / "runs"


def test_run_folders_are_enough(runs, recipe, tmp_path, monkeypatch):
    cut = runs / "deep" / "down"
    cut.mkdir(parents=True)
    (cut / "recipe.json").write_text(recipe.to_json())
    for module in ("comhe.datasets.graphs.load", "comhe.train.graphs"):
        monkeypatch.setattr(f"{module}.load_graph", None)  # no data set is asked for
    found = gather([runs])
    assert (len(found.records), found.unfinished) == (4, 1)
    text = Page(found).html()
    assert "not done: 1" in text
    for title in (": learning", "half space", "full space", "seed 0: angles"):
        assert f'{title}"><title>' in text
    assert 'data-series="before training"' in text
    rows = table(sorted(found.records, key=lambda record: record["regularizer"] != "none"))
    costs = Cells(text.split('<table id="cost"')[1]).cells
    expected = [(row.regularizer, row.data, row.model, row.recipe, *costs_of(row)[3:]) for row in rows]
    assert costs == [cell for line in expected[: len(rows) // 2] for cell in line]
    assert "milliseconds of a training step" in text

    save(tmp_path, "short", found.records, rows)  # a table of runs has the costs, too
    assert Cells(Page(gather([tmp_path / "short-runs.csv"])).html().split('<table id="cost"')[1]).cells == costs


def test_curves_beside_a_table_are_those_of_the_runs(runs, tmp_path):
    """In the form of the committed results: epochs of all runs in one file, energies as means over layers."""
    found = gather([runs])
    save(tmp_path, "short", found.records, table(found.records))
    places = [(recipe.regularizer, recipe.seed, folder) for recipe, folder in found.runs]
    save_curves(tmp_path, "short", places)

    def energies():
        return list(csv.DictReader((tmp_path / "short-energies.csv").open()))

    rows = energies()
    assert [row["epoch"] for row in rows[:4]] == ["0", "1", "2", "3"]
    save_curves(tmp_path, "short", [(*places[0][:2], tmp_path / "gone"), *places[1:]])  # what is known stays
    assert sorted(map(str, energies())) == sorted(map(str, rows))
    beside = gather([tmp_path / "short-runs.csv"])
    assert {key: len(curves) for key, curves in beside.curves.items()} == {
        ("test", "gcn", "citations", "none"): 2,
        ("test", "gcn", "citations", "hs-mhe"): 2,
    }
    for cell, curves in beside.curves.items():
        for mine, theirs in zip(curves, found.curves[cell], strict=True):
            assert mine.keys() == theirs.keys()
            for kind, curve in mine.items():
                torch.testing.assert_close(torch.tensor(curve), torch.tensor(theirs[kind]), rtol=1e-4, atol=0)
    text = Page(beside).html()
    assert ": learning" in text
    assert "they need the run folders" in text  # the angles

    records = [*found.records, *(record | {"data": "other"} for record in found.records)]
    write_csv(tmp_path / "short-runs.csv", records)
    with pytest.raises(ValueError, match="keep them apart"):
        gather([tmp_path / "short-runs.csv"])


def test_figures_are_files_that_need_nothing_else(page, tmp_path):
    folder = tmp_path / "figures"
    assert main(["report", str(tmp_path / "kipf-runs.csv"), "-o", str(page), "--figures", str(folder)]) == 0
    assert "kipf-gcn-difference-to-none-last-epoch.svg" in {path.name for path in folder.iterdir()}
    assert len(list(folder.iterdir())) == page.read_text().count("<figure>")
    cost = ElementTree.parse(next(folder.glob("*cost.svg")))
    texts = [text.text for text in cost.iter("{http://www.w3.org/2000/svg}text")]
    assert {"none", "hs-mhe", "rp-comhe", "test accuracy (%)"} <= set(texts)  # its legend, too
    assert "prefers-color-scheme: dark" in next(folder.glob("*cost.svg")).read_text()


def test_first_weights_are_made_again_or_not_shown(runs):
    folder = next(runs.rglob("result.json")).parent
    run, told = Run(folder), json.loads((folder / "result.json").read_text())
    name, before, after = angles_before_and_after(run)
    assert name == "convs.0.lin"
    assert before.shape == after.shape == (16 * 15 / 2,)
    assert not torch.equal(before, after)
    told["start"]["energy"][name]["half"] *= 1.1  # as if this version drew other numbers
    (folder / "result.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match="could not be made again"):
        angles_before_and_after(run)
    del told["options"]
    (folder / "result.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match="older version"):
        angles_before_and_after(run)


def test_bad_input_is_one_line(tmp_path, capsys):
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    write_csv(tmp_path / "x-runs.csv", _records())
    twice = [str(tmp_path / "x-runs.csv")] * 2
    for words, said in (
        ([str(tmp_path)], "no finished run"),
        ([str(tmp_path / "no")], "neither"),
        ([str(tmp_path / "odd.csv")], "no table of runs"),
        (twice, "twice"),
    ):
        assert main(["report", *words, "-o", str(tmp_path / "p.html")]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_one_seed_is_said(tmp_path):
    write_csv(tmp_path / "x-runs.csv", _records(seeds=1))
    text = Page(gather([tmp_path / "x-runs.csv"])).html()
    assert "neither deviation nor interval" in text
    assert "nan" not in re.sub(r"(?s)<script>.*", "", text).lower()


def _browse(folder, address: str) -> tuple[str, str]:
    shown = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "--virtual-time-budget=3000", "--dump-dom", address],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return shown.stdout, shown.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_chromium_sorts_and_finds_no_error(page, tmp_path):
    dom, errors = _browse(tmp_path / "profile", f"{page.as_uri()}#last-test")
    assert "CONSOLE" not in errors
    assert 'id="last-test" aria-sort="ascending"' in dom
    shown = Cells(dom.split("<table")[1]).cells
    tests = [float(cell.split()[0]) for cell in shown[6::WIDTH]]
    assert tests == sorted(tests)
    dom, _ = _browse(tmp_path / "profile2", f"{page.as_uri()}#last-p_holm")
    assert Cells(dom.split("<table")[1]).cells[WIDTH - 1 :: WIDTH][-1] == ""  # what has no value stays last


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_phone_scrolls_only_tables_whose_first_column_stays(page, tmp_path):
    inside = page.read_text().replace("&", "&amp;").replace('"', "&quot;")
    frame = tmp_path / "phone.html"  # headless windows are no narrower than 500 pixels, frames are
    frame.write_text(
        f'<iframe width="390" height="800" style="border:0" srcdoc="{inside}"></iframe><script>onload = () => {{'
        "const d = document.querySelector('iframe').contentDocument, root = d.documentElement;"
        "const box = d.querySelector('.scroll'); box.scrollLeft = 1000;"
        "const [first, second] = [...box.querySelectorAll('tbody tr > *')].filter(c => c.offsetWidth)"
        ".map(c => Math.round(c.getBoundingClientRect().left));"
        "document.title = [root.clientWidth, root.scrollWidth, box.scrollLeft, box.offsetLeft, first, second]}</script>"
    )
    dom, _ = _browse(tmp_path / "profile", frame.as_uri())
    client, scroll, moved, left, first, second = map(int, re.search(r"<title>([-\d,]+)</title>", dom)[1].split(","))
    assert client in range(360, 391)
    assert scroll <= client
    assert moved > 50
    assert first == left
    assert second < left + 100  # it went under the first

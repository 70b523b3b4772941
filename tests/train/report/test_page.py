import re
import shutil
import subprocess
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from comhe.train.cli.main import main
from comhe.train.compare.records import EPOCHS
from comhe.train.compare.tables import ACCURACY, COST, table
from comhe.train.report.gather import Findings, gather
from comhe.train.report.page import Page
from comhe.train.runs.files import write_csv

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


WIDTH = 4 + len(ACCURACY)


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


def texts(row, columns) -> list[str]:
    return [row.regularizer, row.data, row.model, row.recipe, *(column.text(row) for column in columns)]


def test_tables_show_the_comparison(page):
    expected = [cell for row in table(_records()) for cell in texts(row, ACCURACY)]
    assert Cells(page.read_text()).cells == expected


def test_each_recipe_is_a_family_of_tests_as_in_compare():
    other = [record | {"recipe": "tuned"} for record in _records()]
    both = Cells(Page(Findings(records=_records() + other)).html()).cells[WIDTH - 1 :: WIDTH]
    alone = [[texts(row, ACCURACY)[-1] for row in table(r) if row.epoch == "last"] for r in (_records(), other)]
    assert both[:6] == alone[0] + alone[1]


def test_page_asks_nothing_of_a_network_and_escapes_names(page):
    text = page.read_text()
    outside = text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|src=|@import|url\((?!#)|<link", outside)
    assert "co<b>ra" not in text
    assert "co&lt;b&gt;ra" in text
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(svg)


def test_run_folders_are_enough(finished, tmp_path, monkeypatch):
    for module in ("comhe.datasets", "comhe.train.graphs"):
        monkeypatch.setattr(f"{module}.load_graph", None)  # no data set is asked for
    found = gather([finished[1]])
    text = Page(found).html()
    for title in (": learning", "half space", "full space", "seed 0: angles"):
        assert f'{title}"><title>' in text
    assert ">before training</text>" in text
    assert "hs-mhe energies=1 epochs=3 weight=0.1" in text
    assert "is there twice" not in text
    in_order = sorted(found.records, key=lambda record: record["regularizer"] != "none")
    rows = [row for row in table(in_order) if row.epoch == "last"]
    shown = Cells(text.split('<table id="cost"')[1]).cells
    assert [cell for row in rows for cell in (column.text(row) for column in COST)] == [
        cell for i, cell in enumerate(shown) if i % (5 + len(COST)) >= 5
    ]

    write_csv(tmp_path / "test-runs.csv", found.records)  # a table of runs has the costs, too
    assert Cells(Page(gather([tmp_path / "test-runs.csv"])).html().split('<table id="cost"')[1]).cells == shown


def test_figures_are_files_that_need_nothing_else(page, tmp_path):
    folder = tmp_path / "figures"
    assert main(["report", str(tmp_path / "kipf-runs.csv"), "-o", str(page), "--figures", str(folder)]) == 0
    assert "kipf-gcn-difference-to-none-last-epoch.svg" in {path.name for path in folder.iterdir()}
    assert len(list(folder.iterdir())) == page.read_text().count("<figure>")


def test_one_seed_is_said(tmp_path):
    write_csv(tmp_path / "x-runs.csv", _records(seeds=1))
    text = Page(gather([tmp_path / "x-runs.csv"])).html()
    assert "neither standard deviation nor interval" in text
    assert "nan" not in re.sub(r"(?s)<script>.*|<svg.*?</svg>", "", text).lower()


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

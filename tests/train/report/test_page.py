import json
import re
import shutil
import subprocess
from html import escape, unescape
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from comhe.train.cli.main import main
from comhe.train.compare.records import EPOCHS
from comhe.train.compare.tables import ACCURACY, COST, table
from comhe.train.report.gather import Findings, gather
from comhe.train.report.page import ORDER, Page
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


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page made of a table of runs."""
    folder = tmp_path_factory.mktemp("page")
    write_csv(folder / "kipf-runs.csv", _records())
    assert main(["report", str(folder / "kipf-runs.csv"), "-o", str(folder / "page.html")]) == 0
    return folder / "page.html"


WIDTH = 1 + len(ACCURACY)
IN_ORDER = sorted(ACCURACY, key=lambda column: ORDER.index(column.key))


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
        self.inside = self.inside and tag != "small"

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.cells[-1] += data


def texts(row, columns) -> list[str]:
    return [row.method, *(column.text(row) for column in columns)]


def test_tables_show_the_comparison(page):
    expected = [cell for row in table(_records()) for cell in texts(row, IN_ORDER)]
    assert Cells(page.read_text()).cells == expected


def test_each_recipe_is_a_family_of_tests_as_in_compare():
    other = [record | {"recipe": "tuned"} for record in _records()]
    column = 1 + [column.key for column in IN_ORDER].index("p_holm")
    both = Cells(Page(Findings(records=_records() + other)).html()).cells[column::WIDTH]
    (p_value,) = [column for column in ACCURACY if column.key == "p_holm"]
    alone = [[p_value.text(row) for row in table(r) if row.epoch == "last"] for r in (_records(), other)]
    assert both[:6] == alone[0] + alone[1]


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ([{}], "gcn on co<b>ra: hs-mhe and rp-comhe against none"),
        ([{}, {"data": "b"}], "gcn on co<b>ra and b: hs-mhe and rp-comhe against none"),
        (
            [{"data": name, "model": name} for name in "abcd"],
            "4 networks on 4 data sets: hs-mhe and rp-comhe against none",
        ),
    ],
)
def test_the_title_says_what_was_compared(changes, title):
    page = Page(Findings(records=[record | change for change in changes for record in _records()]))
    assert page.title == title
    assert f"<title>{escape(title)}</title>" in page.html()


def test_the_answer_stands_before_everything_else(page):
    text = page.read_text()
    order = [
        '<p class="lead">',
        '<ul class="verdicts">',
        "<h2>Accuracy",
        "<h2>Paired differences",
        "<h2>What the names mean",
    ]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)
    assert text.index('<p class="lead">') < text.index("<figure") < text.index("<h2>")


def test_the_best_of_each_group_is_marked_and_what_is_better_or_worse():
    records = [r | {"data": data} for data in ("a", "b") for r in _records(8)]
    page = Page(Findings(records=records))
    text = page.html()
    best = re.findall(r'<td class="value best"[^>]*>([^<]*)', text)
    expected = [max((r for r in page.panels[i].rows), key=lambda r: r.test) for i in (0, 1)] * 2
    assert best == [IN_ORDER[0].text(row) for row in expected]
    assert text.count('<td class="value better"') == 8  # two methods on two data sets, in two tables
    for table_text in text.split("<table")[1:]:
        assert table_text.count('<tr class="group">') == 2


def test_the_papers_figures_and_the_recipes_meaning_stand_in_the_page():
    text = Page(Findings(records=[record | {"data": "cora"} for record in _records()])).html()
    assert "82.70 (+1.40)" in text
    assert "<dt>recipe kipf (graphs)</dt>" in text
    assert "200 epochs, learning rate 0.01" in text
    assert "<dt>rp-comhe</dt>" in text


def test_times_of_unknown_conditions_are_marked_and_not_drawn(page):
    text = page.read_text()
    assert "it was not noted whether other programs ran" in text
    assert "accuracy against cost" not in text


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
    assert [cell for row in rows for cell in texts(row, COST)] == shown

    write_csv(tmp_path / "test-runs.csv", found.records)  # a table of runs has the costs, too
    assert Cells(Page(gather([tmp_path / "test-runs.csv"])).html().split('<table id="cost"')[1]).cells == shown


def test_figures_are_files_that_need_nothing_else(page, tmp_path):
    folder, again = tmp_path / "figures", tmp_path / "again.html"
    assert main(["report", str(page.with_name("kipf-runs.csv")), "-o", str(again), "--figures", str(folder)]) == 0
    assert "kipf-gcn-difference-to-none-last-epoch.svg" in {path.name for path in folder.iterdir()}
    assert again.read_text() == page.read_text()
    assert len(list(folder.iterdir())) == page.read_text().count("<figure")


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


CHECK = """<script>
const figures = all("figure"), name = row => row.cells[0].firstChild.textContent;
const shown = table => rows(table).filter(row => row.offsetParent).map(row => `${row.dataset.data} ${name(row)}`);
const last = document.getElementById("last"), found = {};
const set = (key, value) => { form.elements[key][key === "grouped" ? "checked" : "value"] = value; show(); };
found.sorted = rows(last).map(row => row.cells[1].textContent);
set("grouped", false); found.flat = rows(last).map(row => row.cells[1].textContent); set("grouped", true);
set("data", "a"); found.data = shown(last); set("regularizer", "hs-mhe"); found.both = shown(last);
set("data", ""); set("regularizer", ""); set("text", "HS-"); found.text = shown(last); set("text", "");
found.markdown = tableText(last, "markdown"); found.latex = tableText(last, "latex");
found.svg = svgText(figures[0].querySelector("svg"));
found.buttons = figures.every(figure => figure.querySelectorAll(".tools button").length === 2);
const done = blob => { found.png = [blob.type, blob.size]; document.title = JSON.stringify(found); };
png(figures[0].querySelector("svg")).then(done);
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_chromium_sorts_filters_copies_and_downloads(tmp_path):
    records = [r | {"data": data, "model": "g_n"} for data in ("b", "a") for r in _records()]
    (tmp_path / "page.html").write_text(Page(Findings(records=records)).html() + CHECK)
    for _ in range(5):  # Chromium's clock may run ahead of the thread that makes the PNG
        dom, errors = _browse(tmp_path / "profile", f"{(tmp_path / 'page.html').as_uri()}#last-test")
        assert "CONSOLE" not in errors
        assert 'id="last-test" aria-sort="ascending"' in dom
        title = unescape(re.search(r"<title>(.*?)</title>", dom, re.DOTALL)[1])
        if title.startswith("{"):
            break
    found = json.loads(title)
    tests = [float(text.split()[0]) for text in found["sorted"]]
    assert tests == sorted(tests[:3]) + sorted(tests[3:])  # within each group
    assert [float(text.split()[0]) for text in found["flat"]] == sorted(tests)
    assert found["data"] == ["a none", "a hs-mhe", "a rp-comhe"]
    assert found["both"] == ["a hs-mhe"]
    assert found["text"] == ["b hs-mhe", "a hs-mhe"]
    lines = found["markdown"].splitlines()
    assert lines[0].startswith("| group | method | test % | difference |")
    assert len(lines) == 2 + 6
    assert len({line.count("|") for line in lines}) == 1
    assert sum("**" in line for line in lines) == 2
    assert "g\\_n on b, kipf & none & 81.50 $\\pm$ 1.29 &" in found["latex"]
    assert found["latex"].count("\\textbf{") == 2
    assert "var(--paper)" in found["svg"]
    assert "--better:#" in found["svg"]
    ElementTree.fromstring(found["svg"])
    assert found["buttons"]
    assert found["png"][0] == "image/png"
    assert found["png"][1] > 1000


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_phone_shows_the_test_figures_and_scrolls_only_tables(page, tmp_path):
    inside = page.read_text().replace("&", "&amp;").replace('"', "&quot;")
    frame = tmp_path / "phone.html"  # headless windows are no narrower than 500 pixels, frames are
    frame.write_text(
        f'<iframe width="390" height="800" style="border:0" srcdoc="{inside}"></iframe><script>onload = () => {{'
        "const d = document.querySelector('iframe').contentDocument, root = d.documentElement;"
        "const box = d.querySelector('.scroll'), cells = box.querySelector('tbody tr:nth-child(3)').cells;"
        "const right = cells[2].getBoundingClientRect().right, width = cells[0].offsetWidth; box.scrollLeft = 1000;"
        "const [first, second] = [...cells].map(c => Math.round(c.getBoundingClientRect().left));"
        "const seen = [root.clientWidth, root.scrollWidth, box.scrollLeft, box.offsetLeft, first, second, width, right]"
        ";"
        "document.title = seen.map(Math.round)}</script>"
    )
    dom, _ = _browse(tmp_path / "profile", frame.as_uri())
    numbers = re.search(r"<title>([-\d,]+)</title>", dom)[1].split(",")
    client, scroll, moved, left, first, second, width, right = map(int, numbers)
    assert client in range(360, 391)
    assert scroll <= client
    assert right <= client  # test figures and differences are on the screen
    assert width < client / 3
    assert moved > 50
    assert first == left
    assert second < left + 100  # it went under the first

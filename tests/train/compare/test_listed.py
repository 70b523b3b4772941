import csv
import dataclasses
import itertools
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from comhe.errors import ComheError, RunError
from comhe.regularizers import list_regularizers, regularizer_options
from comhe.train.compare.compare import compare, known_records, plan
from comhe.train.compare.listed import _recipes, joined, listed_runs
from comhe.train.compare.records import read_records, variant_of
from comhe.train.recipe import get_recipe, register_recipe
from comhe.train.runs.launch import fit
from comhe.train.settings import variants

ROOT = Path(__file__).parents[3]
CELLS = {"models": "gcn", "data": "citations", "regularizers": "none,hs-mhe", "seeds": 2, "settings": {"epochs": 2}}


def asked(regularizers="none", seeds=1, **settings):
    return plan("gcn", "citations", regularizers, range(seeds), "kipf", settings)


def other(value):
    """A value that differs from a default; None where there is no telling."""
    return not value if isinstance(value, bool) else value + 1 if isinstance(value, int | float) else None


@pytest.mark.parametrize("name", list_regularizers())
@pytest.mark.parametrize(("recipe", "model", "data"), [("kipf", "gcn", "cora"), ("short", "resnet20", "cifar100")])
def test_the_names_of_a_run_tell_its_recipe(name, recipe, model, data):
    """Whatever was changed in it: else runs that nothing is wrong with could not be joined."""
    base = get_recipe(recipe, model, data, name)
    settings = {each.name: getattr(base, each.name) for each in dataclasses.fields(base)} | regularizer_options(name)
    told = []
    for key, value in settings.items():
        if other(value) is None:
            continue
        with suppress(ComheError):  # it belongs to no recipe of this regularizer, or cannot have this value
            (changed,) = variants([base], {key: other(value)})
            (found,) = _recipes(recipe, model, data, name, variant_of(changed)) or [changed]
            assert found == changed
            told.append(key)
    assert len(told) >= 12
    if name == "rp-comhe":  # whose other distributions are not drawn in the span
        (changed,) = variants([base], {"distribution": "rademacher"})
        assert _recipes(recipe, model, data, name, variant_of(changed)) == [changed]


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """Two regularizers with two seeds, trained for two epochs: the folder of the table and the curves."""
    folder = tmp_path_factory.mktemp("listed")
    for regularizer, seed in itertools.product(("none", "hs-mhe"), range(2)):
        fit(get_recipe("kipf", "gcn", "citations", regularizer, seed=seed, epochs=2), runs=folder / "runs")
    compare(**CELLS, runs=folder / "runs", output=folder / "out")
    return folder / "out"


@pytest.fixture
def table(listed, tmp_path, in_process):
    """The file that lists them."""
    shutil.copytree(listed, tmp_path / "out")
    return tmp_path / "out" / "kipf-runs.csv"


def change(table, edit):
    """Edit the cells of each row, as a spreadsheet would."""
    rows = list(csv.DictReader(table.open()))
    for row in rows:
        edit(row)
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_runs_join_in_the_place_of_the_same_run(table):
    listed = listed_runs(table, asked(epochs=2))
    assert listed == read_records(table)
    new = [listed[2] | {"seconds": 7.0}, listed[0] | {"seed": 5}]
    assert joined(listed, new) == [listed[0], listed[1], new[0], listed[3], new[1]]
    assert listed_runs(table.with_name("none-runs.csv"), asked()) == []


@pytest.mark.parametrize("path", sorted((ROOT / "results").glob("*/*-runs.csv")), ids=lambda path: str(path)[-30:])
def test_the_committed_tables_can_grow(path):
    """With other networks all; with more runs of theirs those that say with which settings they were trained."""
    records = read_records(path)
    assert listed_runs(path, [get_recipe(None, "resnet8", "glyphs", "none")]) == records
    names = {(record["recipe"], record["model"], record["data"]) for record in records}
    mine = [get_recipe(*each, "none") for each in names]
    if "variant" in records[0]:
        assert [record | {"training": ""} for record in listed_runs(path, mine)] == [
            r | {"training": ""} for r in records
        ]
    else:
        with pytest.raises(RunError, match="which today's recipe did not train as far as the table says"):
            listed_runs(path, mine)


def test_options_may_come_in_any_order(tmp_path, in_process):
    folders = {"runs": tmp_path / "runs", "output": tmp_path / "out"}
    cells = CELLS | {"regularizers": "rp-comhe", "seeds": 1, "recipe": "published"}
    compare(**cells | {"settings": {"redraw": 5, "dim": 10, "epochs": 2}}, **folders)
    rows = (tmp_path / "out" / "published-runs.csv").read_text().splitlines()
    in_process.clear()
    compare(**cells | {"settings": {"epochs": 1}}, **folders)
    assert len(in_process) == 1
    assert (tmp_path / "out" / "published-runs.csv").read_text().splitlines()[:2] == rows
    compare(**cells | {"settings": {"dim": 10, "epochs": 2, "redraw": 5}}, **folders | {"runs": tmp_path / "gone"})
    assert len(in_process) == 1  # it is the first of them
    assert len((tmp_path / "out" / "published-runs.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize("missing", [("variant", "training"), ("variant", "training", "settings")])
def test_rows_that_do_not_name_their_variant(table, missing):
    """As older versions wrote them: their digests tell what they are of."""
    change(table, lambda row: [row.pop(name) for name in missing])
    assert [record.get("variant") for record in listed_runs(table)] == [None] * 4  # nothing joins them
    if "settings" in missing:
        with pytest.raises(RunError, match=r"lists gcn.citations-none \(seed 0, 1\), which today's recipe"):
            known_records(asked("none,hs-mhe", epochs=2), table.parent)
        return
    assert {record["variant"] for record in listed_runs(table, asked("none,hs-mhe", epochs=2))} == {"epochs=2"}
    with pytest.raises(RunError, match=r"lists gcn.citations-none \(seed 0, 1\), .* --output"):
        listed_runs(table, asked(epochs=3))


def test_runs_of_a_recipe_that_has_changed_are_neither_mixed_nor_lost(tmp_path, registry, in_process):
    """Not in one cell, and not as the baseline of another."""
    folders = {"runs": tmp_path / "runs", "output": tmp_path / "out"}
    settings = CELLS | {"settings": {}, "seeds": 1, "recipe": "brief"}
    register_recipe(get_recipe("kipf", "gcn", "citations", "none").replace(recipe="brief", epochs=2))
    compare(**settings, **folders)
    before = (tmp_path / "out" / "brief-runs.csv").read_text()
    register_recipe(get_recipe("kipf", "gcn", "citations", "none").replace(recipe="brief", epochs=3))
    in_process.clear()
    for regularizers in ("none", "hs-mhe", "mhe"):
        with pytest.raises(RunError, match=r"brief-runs.csv lists gcn.citations-.* which today's recipe did not train"):
            compare(**settings | {"regularizers": regularizers}, **folders | {"runs": tmp_path / "new"})
    assert in_process == []
    assert (tmp_path / "out" / "brief-runs.csv").read_text() == before
    compare(**settings | {"models": "sage"}, **folders)  # no row and no difference is of both
    assert (tmp_path / "out" / "brief-runs.csv").read_text().startswith(before)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda row: row.pop("seed"), "no column seed"),
        (lambda row: row.pop("last_test"), "no column last_test"),
        (lambda row: row.update(seed=""), "line 2 is not of a run: seed is empty"),
        (lambda row: row.update(seed="-1"), "line 2 is not of a run: seed is -1"),
    ],
)
def test_a_damaged_table_is_found_before_anything_is_trained(table, edit, message, in_process):
    change(table, edit)
    in_process.clear()
    with pytest.raises(RunError, match=f"kipf-runs.csv.*{message}"):
        compare(**CELLS, first_seed=5, runs=table.parent / "runs", output=table.parent)
    assert in_process == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace(b",", b";"), "no column"),
        (lambda text: text.replace(b"\n", b",9\n", 2).replace(b",9", b"", 1), "line 2 has another number of cells"),
        (lambda text: text + b"\xff\n", "not a file of curves"),
    ],
)
def test_damaged_curves_are_found_before_anything_is_trained(table, damage, message, in_process):
    curves = table.with_name("kipf-curves.csv")
    curves.write_bytes(damage(curves.read_bytes()))
    in_process.clear()
    with pytest.raises(RunError, match=f"kipf-curves.csv.*{message}"):
        compare(**CELLS, first_seed=5, runs=table.parent / "runs", output=table.parent)
    assert in_process == []


def test_tables_and_curves_that_a_spreadsheet_has_saved(table):
    curves = table.with_name("kipf-curves.csv")
    before = curves.read_bytes()
    for file in (table, curves):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    compare(**CELLS | {"models": "sage"}, runs=table.parent / "runs", output=table.parent)
    assert set(before.splitlines()) < set(curves.read_bytes().splitlines())

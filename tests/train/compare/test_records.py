import pytest

from comhe.errors import DataError, RunError
from comhe.train.compare.records import read_records, record_of, settings_text, training_of, variant_of
from comhe.train.recipe import get_recipe
from comhe.train.report.gather import gather
from comhe.train.runs.files import write_csv
from comhe.train.runs.run import Run, run_folder


def test_a_record_has_the_figures_of_both_epochs_in_percent(finished):
    recipes, folder, records = finished
    run = Run(run_folder(folder, recipes[2]))
    record = record_of(run)
    assert record == records[2]
    for epoch in ("last", "best"):
        assert record[f"{epoch}_test"] == 100 * run.result()[epoch]["test_accuracy"]
    assert record["settings"] == recipes[2].digest
    assert record["penalty_ms"] > 0
    assert record["last_hidden"] < record["start_hidden"]  # what the penalty is for


def test_a_record_says_what_computed_the_run_and_how_busy_others_were(finished):
    recipes, folder, records = finished
    run = Run(run_folder(folder, recipes[0]))
    assert records[0]["device"] == run.environment()["processor"]
    assert records[0]["other_cores"] == run.result()["other_cores"]


def test_records_come_back_from_a_file(finished, tmp_path):
    recipes, _, records = finished
    write_csv(tmp_path / "test-runs.csv", records)
    again = read_records(tmp_path / "test-runs.csv")
    assert [record["settings"] for record in again] == [recipe.digest for recipe in recipes]
    for back, record in zip(again, records, strict=True):
        assert back.keys() == record.keys()
        assert back["variant"] == record["variant"]
        assert back["last_hidden"] == pytest.approx(record["last_hidden"], rel=1e-5)


def test_a_table_that_is_read_and_written_stays_as_it_is(finished, tmp_path):
    """However large its networks are: counts have all their digits."""
    first, again = tmp_path / "first-runs.csv", tmp_path / "again-runs.csv"
    write_csv(first, [record | {"parameters": 3_046_918} for record in finished[2]])
    write_csv(again, read_records(first))
    assert again.read_text() == first.read_text()
    assert ",3046918," in first.read_text()


def test_a_file_of_an_older_version_has_no_variants(tmp_path):
    (tmp_path / "x-runs.csv").write_text("recipe,model,data,regularizer,seed,seconds\nkipf,gcn,cora,none,3,\n")
    (record,) = read_records(tmp_path / "x-runs.csv")
    assert record["seed"] == 3
    assert record["seconds"] is None
    assert "variant" not in record


def test_a_variant_is_what_differs_and_training_what_the_baseline_shares():
    recipe = get_recipe("tuned", "gcn", "citations", "rp-comhe")
    assert variant_of(recipe) == training_of(recipe) == ""
    options = recipe.regularizer_options | {"dim": 7}
    changed = recipe.replace(epochs=5, weight=0.5, regularizer_options=options)
    assert variant_of(changed) == "dim=7 epochs=5 weight=0.5"
    assert training_of(changed) == "epochs=5"
    assert variant_of(changed.replace(tag="mine")) == "mine"
    assert settings_text({"b": 1, "a": None}) == "a=None b=1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,seed\ngcn,0\n", "line 2 is not of a run: no column recipe, data, regularizer"),
        ("recipe,model,data,regularizer,seed\nkipf,gcn,cora,none,two\n", "line 2 is not of a run: invalid literal"),
        ("recipe,model,data,regularizer\nkipf,gcn,cora\n", "line 2 is not of a run: another number of cells"),
        ("\udcff", "not a table of runs"),
    ],
)
def test_a_table_of_something_else_is_one_line(tmp_path, text, message):
    path = tmp_path / "a-runs.csv"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(RunError, match=rf"^{path}: {message}"):
        read_records(path)


@pytest.mark.parametrize(
    ("cell", "reason"), [("", "last_test is empty"), ("nan", "last_test is nan"), ("inf", "is inf")]
)
def test_a_figure_that_is_none_is_told_with_its_line(finished, tmp_path, cell, reason):
    path = tmp_path / "test-runs.csv"
    write_csv(path, [finished[2][0], finished[2][1] | {"last_test": cell}])
    with pytest.raises(RunError, match=f"line 3 is not of a run: .*{reason}"):
        read_records(path)


def test_a_file_that_a_spreadsheet_saved_is_read(finished, tmp_path):
    path = tmp_path / "test-runs.csv"
    write_csv(path, finished[2])
    plain = read_records(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_records(path) == plain
    assert gather([path]).records == plain
    path.write_bytes(b"\xff\xfe" + path.read_bytes())
    with pytest.raises(DataError, match="not a table of runs"):
        gather([path])

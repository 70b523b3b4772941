import pytest

from comhe.train.cli import demo
from comhe.train.cli.main import main
from comhe.train.recipe import domains
from comhe.train.task import check_recipe


def test_it_compares_in_every_domain_on_built_in_data_over_several_seeds():
    recipes = demo.planned(demo.Demo().seeds)
    assert {recipe.domain for recipe in recipes} == set(domains())
    for recipe in recipes:
        check_recipe(recipe, "cpu")
    cells = {(recipe.model, recipe.regularizer) for recipe in recipes}
    assert len(recipes) == 3 * len(cells)
    assert {model for model, name in cells if name == "none"} == {model for model, _ in cells}
    assert all((model, "rp-comhe") in cells for model, _ in cells)


def test_it_ends_with_one_table_and_the_page(tmp_path, capsys, monkeypatch, in_process):
    monkeypatch.setenv("COLUMNS", "120")  # a narrow table has other lines
    short = [(recipe, *names, settings | {"epochs": 1}) for recipe, *names, settings in demo.COMPARISONS]
    short = [case for case in short if case[1] == "gcn"]
    monkeypatch.setattr(demo, "COMPARISONS", (short[0], (*short[0][:2], "citations-random1", *short[0][3:])))
    assert main(["demo", "--seeds", "2", "--output", str(tmp_path / "out"), "--device", "cpu", "--jobs", "1"]) == 0
    shown = capsys.readouterr().out
    table = [line.split() for line in shown[shown.index("model ") :].splitlines() if line.strip().startswith("gcn")]
    assert [line[1:4] for line in table[:3]] == [["citations", name, "2"] for name in ("none", "hs-mhe", "rp-comhe")]
    assert [line[1] for line in table[3:]] == ["citations-random1"] * 3
    assert shown.rstrip().endswith(f"the page is {tmp_path / 'out' / 'page.html'}")
    assert "<html" in (tmp_path / "out" / "page.html").read_text()
    assert len(in_process) == 12
    main(["demo", "--seeds", "2", "--output", str(tmp_path / "out"), "--device", "cpu", "--jobs", "1"])
    assert len(in_process) == 12, "finished runs are found"


def test_no_seed_is_a_mistake(capsys):
    assert main(["demo", "--seeds", "0"]) == 2
    assert "seeds must be at least 1, not 0" in capsys.readouterr().err


@pytest.mark.parametrize("count", [1, 3])
def test_a_single_seed_has_no_spread(count):
    from comhe.train.compare.tables import Row

    row = Row("kipf", "gcn", "citations", "none", "best", n=count, val=80.0, test=81.25, std=0.5)
    shown = demo.summary([row])
    assert shown.cells[0][3:5] == [str(count), "81.25" + (" ± 0.50" if count > 1 else "")]
    assert shown.note.startswith("Few seeds")


def test_columns_are_those_of_a_comparison():
    from comhe.train.compare.tables import ACCURACY

    assert set(demo.summary([]).header[3:]) < {column.title for column in ACCURACY}

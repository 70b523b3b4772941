import pytest

from comhe.train.cli.main import main
from comhe.train.runs.run import run_folder
from comhe.zoo import get_weights


def test_a_summary_is_printed(finished, tmp_path, capsys):
    recipes, folder, _ = finished
    folders = [str(run_folder(folder, recipe)) for recipe in recipes[:2]]
    assert main(["publish", *folders, "--output", str(tmp_path), "--suffix", "mine"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("gcn.citations-none-mine: test ")
    assert "% over 2)" in shown
    assert get_weights(tmp_path / "gcn.citations-none-mine").card["seeds"]["n"] == 2


def test_weights_that_are_there_stay_unless_told(finished, tmp_path, capsys):
    recipes, folder, _ = finished
    command = ["publish", str(run_folder(folder, recipes[0])), "--output", str(tmp_path)]
    assert main(command) == 0
    (card,) = tmp_path.glob("*.json")
    card.write_text("kept")
    assert main(command) == 2
    assert (
        f"{card} exists; tell these weights apart with --suffix, or replace it with --overwrite"
        in capsys.readouterr().err
    )
    assert card.read_text() == "kept"
    assert main([*command, "--overwrite"]) == 0
    assert get_weights(card).card["seeds"]["n"] == 1


def test_a_folder_of_runs_is_no_run(finished, tmp_path, capsys):
    recipes, folder, _ = finished
    above = run_folder(folder, recipes[0]).parent
    assert main(["publish", str(above), "--output", str(tmp_path)]) == 2
    assert f"{above} is not a finished run; name the runs in it: {above}/seed*\n" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["exp/1", "../x", "a b"])
def test_a_suffix_that_no_name_can_have_is_refused_before_anything_is_written(finished, tmp_path, capsys, suffix):
    recipes, folder, _ = finished
    command = ["publish", str(run_folder(folder, recipes[0])), "--output", str(tmp_path / "weights")]
    assert main([*command, "--suffix", suffix]) == 2
    said = f"suffix becomes part of a file name: letters, digits, '.', '_' and '-', not {suffix!r}"
    assert said in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]

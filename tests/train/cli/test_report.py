from comhe.train.cli.main import main


def test_the_page_and_its_figures_are_written(finished, tmp_path, capsys):
    page, figures = tmp_path / "page.html", tmp_path / "figures"
    assert main(["report", str(finished[1]), "-o", str(page), "--figures", str(figures)]) == 0
    shown = capsys.readouterr().out.replace("\n", "")
    assert "6 runs" in shown
    assert f"{len(list(figures.iterdir()))} figures" in shown
    assert page.read_text().startswith("<!doctype html>")


def test_what_exists_is_replaced_only_if_asked(finished, tmp_path, capsys):
    page, figures = tmp_path / "page.html", tmp_path / "figures"
    page.write_text("mine")
    argv = ["report", str(finished[1]), "-o", str(page)]
    assert main(argv) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert page.read_text() == "mine"
    assert main([*argv, "--overwrite"]) == 0
    assert page.read_text() != "mine"
    figures.mkdir()
    (figures / "mine.svg").write_text("mine")
    assert main(["report", str(finished[1]), "-o", str(tmp_path / "new.html"), "--figures", str(figures)]) == 2
    assert [path.name for path in figures.iterdir()] == ["mine.svg"]

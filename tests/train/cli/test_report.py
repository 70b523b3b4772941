from comhe.train.cli.main import main


def test_the_page_and_its_figures_are_written(finished, tmp_path, capsys):
    page, figures = tmp_path / "page.html", tmp_path / "figures"
    assert main(["report", str(finished[1]), "-o", str(page), "--figures", str(figures)]) == 0
    shown = capsys.readouterr().out.replace("\n", "")
    assert "6 runs" in shown
    assert f"{len(list(figures.iterdir()))} figures" in shown
    assert page.read_text().startswith("<!doctype html>")

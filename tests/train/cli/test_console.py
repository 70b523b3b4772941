import io

from rich.console import Console

from comhe.train.cli import console as module
from comhe.train.cli.console import print_table, show_progress


def test_progress_in_a_pipe_is_a_few_lines(capsys):
    with show_progress("many", "run") as report:
        for done in range(1, 101):
            report(done, 100, f"failed: {done}" if done == 7 else f"seed {done}")
    with show_progress("silent", "epoch", shown=False) as report:
        report(1, 1, "")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 21
    assert lines[1] == "many  run 7/100  failed: 7"
    assert lines[-1] == "many  run 100/100  seed 100"


def test_in_a_terminal_failures_stay_above_the_bar(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(module, "console", Console(file=screen, force_terminal=True, width=100))
    with show_progress("many", "run") as report:
        report(1, 3, "failed: the first")
        report(2, 3, "the second")
    assert sum("failed: the first" in line and "many" not in line for line in screen.getvalue().splitlines()) == 1


def test_a_table_in_a_pipe_is_as_wide_as_it_needs(capsys):
    print_table("title", ["model", "figure"], [["m" * 120, "x" * 60]])
    shown = capsys.readouterr().out
    assert "m" * 120 in shown
    assert "x" * 60 in shown

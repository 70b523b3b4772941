"""Progress goes to standard error; tables that the program prints lose nothing at any width."""

import io
import re
import sys
import time

import pytest

from comhe import progress
from comhe.progress import Amount, Bars
from comhe.train.cli import console as module
from comhe.train.cli.console import print_table, show_progress, width_of


def test_progress_in_a_pipe_is_a_few_lines_on_standard_error(capsys):
    with show_progress("many", "run") as report:
        for done in range(1, 101):
            report(done, 100, f"failed: {done}" if done == 7 else f"seed {done}")
    with show_progress("silent", "epoch", shown=False) as report:
        report(1, 1, "")
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 21
    assert lines[1] == "many  run 7/100  failed: 7"
    assert lines[-1] == "many  run 100/100  seed 100"
    assert "\r" not in err


def test_a_slow_epoch_is_a_line(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with show_progress("slow", "epoch") as report:
        for done in range(1, 51):
            now[0] += 5
            report(done, 200, "loss")
    assert len(capsys.readouterr().err.splitlines()) == 50


class Screen(io.StringIO):
    """A terminal; ``lines`` are what has stood on it."""

    def isatty(self):
        return True

    @property
    def lines(self):
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.getvalue()).replace("\r", "\n").splitlines()


@pytest.fixture
def screen(monkeypatch):
    screen = Screen()
    monkeypatch.setattr(progress, "INTERVAL", 0)
    monkeypatch.setattr(progress, "PATIENCE", 0)
    monkeypatch.setattr(module, "Bars", lambda: Bars(_console(screen)))
    return screen


def _console(screen):
    from rich.console import Console

    return Console(file=screen, force_terminal=True, width=100)


def test_on_a_terminal_failures_and_epochs_stay_above_the_bars(screen, monkeypatch):
    monkeypatch.setattr(sys, "stderr", screen)
    with show_progress("many", "run") as report:
        report(1, 3, "failed: the first")
        report(2, 3, "the second")
    with show_progress("gcn", "epoch") as report:
        report(1, 1, "loss 0.5")
    lines = [line.strip() for line in screen.lines]
    assert lines.count("many  run 1/3  failed: the first") == 1
    assert lines.count("gcn  epoch 1/1  loss 0.5") == 1
    assert any("2/3 runs" in line for line in lines)


def test_on_a_terminal_the_bar_moves_with_steps(screen, monkeypatch):
    monkeypatch.setattr(sys, "stderr", screen)
    with show_progress("many", "run") as report:
        report(1, 3, "the first")
        progress.current_display().update("worker", Amount("gcn seed 1", 50, 200, "step"))
        progress.current_display()._progress.refresh()
    shown = "\n".join(screen.lines)
    assert "50/200 steps" in shown
    assert "1/3 runs" in shown


def test_a_width_is_that_of_columns_or_of_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert width_of(io.StringIO()) == 60
    monkeypatch.delenv("COLUMNS")
    assert width_of(io.StringIO()) is None


def test_a_table_in_a_pipe_is_as_wide_as_it_needs(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table("title", ["model", "figure"], [["m" * 120, "x" * 60]])
    shown = capsys.readouterr().out
    assert "m" * 120 in shown
    assert "x" * 60 in shown

"""Progress reaches a display, costs nothing without one, and on a terminal says rate and time left."""

import io
import re

import pytest
from rich.console import Console

from comhe import progress
from comhe.progress import Amount, Bars, clock, count_text, track, tracked, watched_by


class Recorder:
    def __init__(self):
        self.seen, self.ended = [], 0

    def update(self, key, amount):
        self.seen.append(amount)

    def end(self, key):
        self.ended += 1


@pytest.fixture
def eager(monkeypatch):
    """Every report is shown."""
    monkeypatch.setattr(progress, "INTERVAL", 0)
    monkeypatch.setattr(progress, "PATIENCE", 0)


def test_a_display_sees_each_report_and_the_end_also_after_an_error(eager):
    display = Recorder()

    def broken():
        with track("broken", 2, "part") as report:
            report(1)
            raise KeyError

    with watched_by(display):
        assert list(tracked(["ab", "c"], "letters", 3, "letter", len)) == ["ab", "c"]
        with pytest.raises(KeyError):
            broken()
    assert [(a.label, a.done, a.total) for a in display.seen] == [
        ("letters", 2, 3),
        ("letters", 3, 3),
        ("broken", 1, 2),
    ]
    assert display.ended == 2
    with track("unwatched", 1, "part") as report:
        report(1)
    assert len(display.seen) == 3


def test_frequent_reports_are_thinned_out():
    display = Recorder()
    with watched_by(display), track("fast", 10**4, "step") as report:
        for done in range(10**4):
            report(done)
    assert len(display.seen) < 100


def test_no_bar_where_standard_error_is_no_terminal(eager, capsys):
    assert list(tracked(range(9), "decoding", 9, "file", always=True)) == list(range(9))
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_figure_is_cut_on_a_terminal(width, eager):
    screen = io.StringIO()
    with Bars(Console(file=screen, force_terminal=True, width=width)) as bars:
        bars.print("a line that stays")
        bars.overall(Amount("compare", 3, 1200, "run"))
        bars.update("a", Amount("a-very-long-name-of-a-model.and-of-data-and-a-regularizer", 123456, 234567, "step"))
        bars._progress.refresh()
        bars.end("a")
        bars.end("unknown")
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue()).replace("\r", "\n").splitlines()
    assert "a line that stays" in lines
    shown = [line for line in lines if "123,456/234,567 steps" in line]
    assert shown
    assert all(len(line) <= width for line in lines)
    assert any("3/1,200 runs" in line for line in lines)


def test_rate_and_time_left(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    row = progress._Row(Amount("training", 100, 1000, "step"))  # of a run that goes on
    now[0], row.amount = 10.0, Amount("training", 600, 1000, "step")
    assert row.figures() == "600/1,000 steps  50 steps/s  0:08 left"
    row = progress._Row(Amount("runs", 0, 10, "run"))
    now[0] = 30.0
    assert row.figures(more=0.5) == "0/10 runs  40 s each  6:20 left", "runs at work count by their share"
    row = progress._Row(Amount("file", 0, None, "byte"))
    now[0], row.amount = 32.0, Amount("file", 5e6, None, "byte")
    assert row.figures() == "5.0 MB  2.5 MB/s"


def test_words():
    assert count_text(Amount("", 1, 2, "file")) == "1/2 files"
    assert clock(-1) == "0:00"
    assert clock(3600) == "1:00:00"


def test_a_terminal_shows_data_that_are_fetched_without_being_asked(eager, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(progress.sys, "stderr", screen)
    assert list(tracked(range(3), "decoding", 3, "file", always=True)) == [0, 1, 2]
    assert "decoding" in screen.getvalue()

import math
from typing import Any

import pytest

from comhe.train.compare.tables import Row
from comhe.train.report.meanings import Panel
from comhe.train.report.verdict import headline, kind_of, verdicts


def row(regularizer: str, difference: float | None = None, p: float = math.nan, n: int = 10) -> Row:
    ends: dict[str, Any] = {} if difference is None else {"low": difference - 0.1, "high": difference + 0.1, "p": p}
    return Row("r", "m", "d", regularizer, "last", n, 80.0, 80.0, 0.1, difference, p_holm=p, **ends)


def panel(*rows: Row) -> Panel:
    return Panel("r", "m", "d", [row("none"), *rows])


@pytest.mark.parametrize(
    ("difference", "p", "kind"),
    [(1.0, 0.01, "better"), (-1.0, 0.01, "worse"), (1.0, 0.2, "not settled"), (1.0, math.nan, "not settled")],
)
def test_a_difference_is_settled_by_its_corrected_p_value(difference, p, kind):
    assert kind_of(row("a", difference, p)) == kind
    assert kind_of(row("none")) == "not settled"


def test_the_word_of_a_panel():
    good, bad, open_ = row("good", 1.0, 0.001), row("bad", -1.0, 0.001), row("open", 5.0, 0.4)
    for rows, word, first in (
        ([open_, good], "helps", "good +1.00 points (95 % interval +0.90 to +1.10, p = 0.001, 10 seeds)"),
        ([open_, bad], "harms", "bad -1.00"),
        ([row("less", -3.0, 0.9), open_], "not settled", "open +5.00"),
        ([good, bad], "mixed", "good +1.00"),
    ):
        (found,) = verdicts([panel(*rows)])
        assert found.word == word
        assert found.text.startswith(first)
    assert "but bad -1.00" in found.text
    assert verdicts([panel()]) == []


def test_the_headline_counts_and_names_the_extremes():
    text = headline([panel(row("a", 1.0, 0.001), row("b", 2.0, 0.001), row("c", -1.0, 0.001), row("d", 9.0, 0.5, n=2))])
    assert "Of 4 comparisons" in text
    assert "2 are better, 1 is worse and 1 is not settled" in text
    assert "largest gain is that of b +2.00" in text
    assert "largest loss is that of c -1.00" in text
    assert "1 of them is of fewer than 5 seeds" in text
    assert "no run without a regularizer" in headline([panel()])


def test_one_seed_has_neither_interval_nor_p_value():
    (found,) = verdicts([panel(row("a", 1.0, n=1))])
    assert found.text == "a +1.00 points (1 seed)"

"""What a reader wants first, in sentences: does it help, by how much, and how sure is that."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from comhe.train.compare.tables import FEW, Row, signed

from .meanings import Panel, enumerate_names

SURE = 0.05  # largest p-value, corrected, of a difference that counts as settled
WORDS = {"better": "helps", "worse": "harms", "not settled": "not settled"}


class Verdict(NamedTuple):
    """What is said of one panel: one of :data:`WORDS`, or that some help and others harm, and the figures for it."""

    panel: Panel
    kind: str
    word: str
    text: str


def kind_of(row: Row) -> str:
    """Return whether the regularizer is better or worse at p < 0.05 (Holm), or that this is not settled."""
    if row.difference is None or row.p_holm is None or not row.has_interval or row.p_holm >= SURE:
        return "not settled"
    return "better" if row.difference > 0 else "worse"


def verdicts(panels: Sequence[Panel]) -> list[Verdict]:
    """Return one verdict for each panel that has differences to the network without a regularizer."""
    found = []
    for panel in panels:
        rows = [row for row in panel.rows if row.difference is not None]
        if not rows:
            continue
        kinds = Counter(kind_of(row) for row in rows)
        kind = "better" if kinds["better"] else "worse" if kinds["worse"] else "not settled"
        word = "mixed" if kinds["better"] and kinds["worse"] else WORDS[kind]
        shown = [row for row in rows if kind_of(row) == kind]
        shown.sort(key=lambda row: (row.difference or 0.0) * (1 if kind == "worse" else -1))
        text = _figures(shown[0]) + _others(shown[1:])
        if word == "mixed":
            worse = sorted((row for row in rows if kind_of(row) == "worse"), key=lambda row: row.difference or 0.0)
            text += f"; but {_figures(worse[0])}{_others(worse[1:])}"
        found.append(Verdict(panel, "not settled" if word == "mixed" else kind, word, text))
    return found


def headline(panels: Sequence[Panel]) -> str:
    """Return the answer in a sentence or two, over all panels."""
    rows = [row for panel in panels for row in panel.rows if row.difference is not None]
    if not rows:
        return "There is no run without a regularizer on the same seeds, so nothing here tells whether one helps."
    kinds = Counter(kind_of(row) for row in rows)
    settled = {
        "better": f"{kinds['better']} {_plural('is', 'are', kinds['better'])} better",
        "worse": f"{kinds['worse']} {_plural('is', 'are', kinds['worse'])} worse",
        "not settled": f"{kinds['not settled']} {_plural('is', 'are', kinds['not settled'])} not settled",
    }
    count = f"Of {len(rows)} comparisons" if len(rows) > 1 else "Of one comparison"
    text = f"{count} with the network without a regularizer, {enumerate_names(settled.values())}"
    text += f" (p < {SURE:g}, corrected for all comparisons of a recipe). "
    ends = {kind: [row for row in rows if kind_of(row) == kind] for kind in ("better", "worse")}
    for kind, found in ends.items():
        if found:
            row = (max if kind == "better" else min)(found, key=lambda row: row.difference or 0.0)
            text += f"The largest {'gain' if kind == 'better' else 'loss'} is that of {_figures(row)}, {_where(row)}. "
    few = sum(row.n < FEW for row in rows)
    if few:
        text += f"{few} of them {_plural('is', 'are', few)} of fewer than {FEW} seeds, which can settle little."
    return text.strip()


def _figures(row: Row) -> str:
    text = f"{row.method} {signed(row.difference or 0.0)} points"
    seeds = f"{row.n} seed{'s' * (row.n > 1)}"
    if row.low is None or row.high is None or not row.has_interval or row.p_holm is None:
        return f"{text} ({seeds})"
    p = "< 0.0001" if row.p_holm < 1e-4 else f"= {row.p_holm:.2g}"
    return f"{text} (95 % interval {signed(row.low)} to {signed(row.high)}, p {p}, {seeds})"


def _others(rows: Sequence[Row]) -> str:
    """Methods of which the same is to be said, in short."""
    return f"; {enumerate_names(f'{row.method} {signed(row.difference or 0.0)}' for row in rows)}" if rows else ""


def _where(row: Row) -> str:
    return f"{row.model} on {row.data}, recipe {row.recipe}"


def _plural(one: str, many: str, count: int) -> str:
    return one if count == 1 else many

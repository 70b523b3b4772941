"""The report's tables: the order of their rows, their columns, and their HTML."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from comhe.train.compare.compare import CELL, Row, table
from comhe.zoo import model_domain

METHODS = ("none", "mhe", "hs-mhe", "rp-comhe", "ap-comhe", "adv-comhe", "group-comhe")

# Headings of the columns by what a column is sorted by. The first one names the row and stays in sight.
NAMES = {"regularizer": "regularizer", "data": "data", "model": "model", "recipe": "recipe"}
ACCURACY = {"n": "seeds", "val": "validation, %", "test": "test, %", "difference": "difference, points"}
ACCURACY |= {"low": "95\u00a0% interval, points", "p_holm": "p (Holm)"}
COST = {
    "parameters": "parameters",
    "gflops": "forward, GFLOP",
    "step_ms": "step, ms",
    "penalty_ms": "penalty, ms",
}
COST |= {"hidden_end": "hidden energy", "output_end": "output energy", "seconds": "run, s"}


def rows_of(records: Sequence[dict[str, Any]]) -> list[Row]:
    """The table's rows: those of a recipe, model and data set together, by :func:`place`.

    What one `comhe compare` could have made is one family of tests: a recipe, and the models of a domain.
    """
    panels = list(dict.fromkeys(tuple(record[k] for k in CELL[:3]) for record in records))
    families: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in sorted(records, key=lambda r: (panels.index(tuple(r[k] for k in CELL[:3])), place(r["regularizer"]))):
        families.setdefault((record["recipe"], _domain(record["model"])), []).append(record)
    return [row for family in families.values() for row in table(family)]


def place(regularizer: str) -> tuple[int, str]:
    """`none` first, since it is what the others differ from, then in the paper's order, rivals last."""
    return METHODS.index(regularizer) if regularizer in METHODS else len(METHODS), regularizer


def _domain(model: str) -> str:
    try:
        return model_domain(model)
    except ValueError:  # a table may name a network that is not registered here
        return "custom"


def html_table(name: str, caption: str, columns: dict[str, str], rows: Sequence[Row], texts: Callable) -> str:
    """A sortable table: the names of a row, then ``columns`` with the texts that compare's tables have for them."""
    heads = ""
    for key, title in (NAMES | columns).items():
        words, _, unit = title.partition(", ")
        shown = f"{escape(words)}<small>{escape(unit)}</small>"
        heads += f'<th scope="col" id="{name}-{key}" aria-sort="none"><button type="button">{shown}</button></th>'
    body = []
    for row in rows:
        values = [getattr(row, key) for key in (*NAMES, *columns)]
        sortable = ["" if v is None or (isinstance(v, float) and math.isnan(v)) else str(v) for v in values]
        shown = [getattr(row, key) for key in NAMES] + texts(row)[3:]
        first, *others = (
            f' data-value="{escape(value)}">{escape(text)}' for value, text in zip(sortable, shown, strict=True)
        )
        of = f"<small>{escape(f'{row.data} {row.model} {row.recipe}')}</small>"  # on a phone the rest is out of sight
        body.append(f'<tr><th scope="row"{first}{of}</th>{"".join(f"<td{cell}</td>" for cell in others)}</tr>')
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table id="{name}">'
        f"<caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )

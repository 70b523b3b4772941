"""Rows over seeds, and the tables of them that the terminal, Markdown and the report page show."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from .records import CELL, EPOCHS, Record, cell_of
from .statistics import holm, mean_std, paired

FEW = 5  # seeds; fewer are called so
Cells = dict[tuple[str, ...], dict[int, Record]]  # by cell, then by seed
# What a row says besides accuracy, and the column of the runs that it is the mean of.
COSTS = {name: name for name in ("seconds", "parameters", "gflops", "step_ms", "penalty_ms")}
COSTS |= {"hidden_start": "start_hidden", "output_start": "start_output"}


@dataclass(frozen=True)
class Row:
    """The means over the seeds of one cell, with the epoch chosen by one rule; accuracies are in percent.

    ``gflops`` is one forward pass of a sample, or of an entire graph. Energies are means over the hidden layers (half
    space) and the output layers (full space). ``settings`` are those that differ from the named recipe, or the tag.
    """

    recipe: str
    model: str
    data: str
    regularizer: str
    epoch: str
    n: int
    val: float
    test: float
    std: float
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    seconds: float = 0.0
    parameters: float | None = None
    gflops: float | None = None
    step_ms: float | None = None
    penalty_ms: float | None = None
    hidden_start: float | None = None
    hidden_end: float | None = None
    output_start: float | None = None
    output_end: float | None = None
    settings: str = ""

    @property
    def cell(self) -> tuple[str, ...]:
        """What its runs have in common, as ``cell_of`` says of a record."""
        return self.recipe, self.model, self.data, self.regularizer, self.settings

    @property
    def method(self) -> str:
        return f"{self.regularizer} {self.settings}".strip()

    @property
    def has_interval(self) -> bool:
        return self.p is not None and not math.isnan(self.p)


def table(records: Sequence[Record], baseline: str = "none") -> list[Row]:
    """Return rows, first for the last epoch; differences are taken on shared seeds, at the same training settings."""
    cells: Cells = {}
    for record in records:
        cells.setdefault(cell_of(record), {})[record["seed"]] = record
    rows: list[Row] = []
    for epoch in EPOCHS:  # the two epochs are two views of the same runs: one family of tests each
        family = [_row(cells, key, epoch, baseline) for key in cells]
        tested = [row for row in family if "p" in row]
        for row, adjusted in zip(tested, holm([row["p"] for row in tested]), strict=True):
            row["p_holm"] = adjusted
        rows += [Row(**row) for row in family]
    return rows


def _row(cells: Cells, key: tuple[str, ...], epoch: str, baseline: str) -> dict[str, Any]:
    seeds = cells[key]
    values = {seed: record[f"{epoch}_test"] for seed, record in seeds.items()}
    test, std = mean_std(list(values.values()))
    row: dict[str, Any] = dict(zip((*CELL, "settings"), key, strict=True))
    row |= {"epoch": epoch, "n": len(values), "test": test, "std": std}
    row["val"] = mean_std([record[f"{epoch}_val"] for record in seeds.values()])[0]
    for name, column in {**COSTS, "hidden_end": f"{epoch}_hidden", "output_end": f"{epoch}_output"}.items():
        measured = [record[column] for record in seeds.values() if record.get(column) is not None]
        row[name] = mean_std(measured)[0] if measured else None
    base = _baseline_of(cells, key, baseline)
    shared = sorted(set(base) & set(values))
    if row["regularizer"] != baseline and shared:
        pair = paired([base[seed][f"{epoch}_test"] for seed in shared], [values[seed] for seed in shared])
        row |= {"difference": pair.difference, "low": pair.low, "high": pair.high, "p": pair.p}
    return row


def _baseline_of(cells: Cells, key: tuple[str, ...], baseline: str) -> Mapping[int, Record]:
    """The runs without the regularizer at the same training settings: of the same tag if there are any."""
    *panel, _, variant = key
    training = next(iter(cells[key].values())).get("training") or ""
    for candidate in (variant, training):
        found = cells.get((*panel, baseline, candidate), {})
        if any((record.get("training") or "") == training for record in found.values()):
            return found
    return {}


@dataclass(frozen=True)
class Column:
    """One column of a table: its heading, the attribute of a row that it sorts by, and the text of a cell."""

    title: str
    key: str
    text: Callable[[Row], str]
    is_name: bool = False


@dataclass(frozen=True)
class Table:
    """Some rows under some columns; the note says what a reader has to keep in mind."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    note: str = ""

    @property
    def header(self) -> list[str]:
        return [column.title for column in self.columns]

    @property
    def cells(self) -> list[list[str]]:
        return [[column.text(row) for column in self.columns] for row in self.rows]


def _cell(text: Callable[..., str], *keys: str) -> Callable[[Row], str]:
    """The text of some attributes, empty if one of them is None."""
    return lambda row: "" if None in (values := [getattr(row, key) for key in keys]) else text(*values)


def signed(value: float, digits: int = 2) -> str:
    """Return a difference with its sign; one that rounds to nothing has none.

    Example:
        >>> signed(0.5), signed(-0.001)
        ('+0.50', '0.00')
    """
    text = f"{round(value, 5):+.{digits}f}"
    return text if float(text) else text[1:]


def percent(value: float) -> str:
    """Return a share with two digits; a tie reads the same from runs and from their six digits in a CSV file.

    Example:
        >>> percent(63.2149999999999), percent(63.215)
        ('63.22', '63.22')
    """
    return f"{round(value, 5):.2f}"


def p_value(p: float) -> str:
    """Return a p-value with four digits.

    Example:
        >>> p_value(0.01914), p_value(1e-9)
        ('0.0191', '< 0.0001')
    """
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def _interval(row: Row) -> str:
    if row.low is None or row.high is None or not row.has_interval:
        return ""
    return f"{signed(row.low)} to {signed(row.high)}"


def _three_digits(value: float) -> str:
    return f"{value:#.3g}".rstrip(".") if abs(value) < 999.5 else f"{value:,.0f}"


def _p_value(row: Row) -> str:
    if row.p_holm is None or not row.has_interval:
        return ""
    return p_value(row.p_holm)


NAMES = {name: Column(name, name, attrgetter(name), True) for name in (*CELL[1:], "settings", "recipe")}
ACCURACY = (
    Column("n", "n", _cell("{}".format, "n")),
    Column("val %", "val", _cell(percent, "val")),
    Column("test %", "test", lambda row: percent(row.test) + (f" ± {percent(row.std)}" if row.n > 1 else "")),
    Column("difference", "difference", _cell(signed, "difference")),
    Column("95 % interval", "low", _interval),
    Column("p (Holm)", "p_holm", _p_value),
)
COST = (
    Column("parameters", "parameters", _cell("{:,.0f}".format, "parameters")),
    Column("GFLOP", "gflops", _cell("{:.4g}".format, "gflops")),
    Column("ms/step", "step_ms", _cell(_three_digits, "step_ms")),
    Column("penalty ms/step", "penalty_ms", _cell(_three_digits, "penalty_ms")),
    Column("hidden energy, half space", "hidden_end", _cell("{:.4f} to {:.4f}".format, "hidden_start", "hidden_end")),
    Column("output energy", "output_end", _cell("{:.4f} to {:.4f}".format, "output_start", "output_end")),
    Column("s/run", "seconds", _cell(_three_digits, "seconds")),
)


def views(rows: Sequence[Row], names: Sequence[str] = ("model", "data", "regularizer", "settings")) -> list[Table]:
    """Return the tables to show: accuracy for each rule of choosing the epoch, and cost where it was measured."""
    shown = [NAMES[name] for name in names if name != "settings" or any(row.settings for row in rows)]
    by_epoch = {title: [row for row in rows if row.epoch == epoch] for epoch, title in EPOCHS.items()}
    columns = [*shown, *ACCURACY]
    tables = [Table(f"{title}, accuracy", columns, some, few_seeds(some)) for title, some in by_epoch.items()]
    measured = [row for row in rows if row.epoch == "last" and row.gflops is not None]
    costs = [Table("cost, and energies before and after training", [*shown, *COST], measured)] if measured else []
    return tables + costs


def few_seeds(rows: Sequence[Row]) -> str:
    """Return the note under rows of which some have few seeds."""
    return few_note(row.n for row in rows)


def few_note(counts: Iterable[int]) -> str:
    """Return the note under figures of which some are of fewer than :data:`FEW` seeds; else nothing.

    Example:
        >>> few_note([2, 10])
        'Few seeds (2 a row): a spread that so few show is uncertain itself. Take 5 or more before you conclude.'
    """
    if not (few := sorted({n for n in counts if 0 < n < FEW})):
        return ""
    found = f"{few[0]}" if len(few) == 1 else f"{few[0]} to {few[-1]}"
    what = "one seed shows no spread" if few == [1] else "a spread that so few show is uncertain itself"
    return f"Few seeds ({found} a row): {what}. Take {FEW} or more before you conclude."


def markdown(rows: Sequence[Row]) -> str:
    parts = []
    for shown in views(rows):
        lines = [shown.header, ["---"] * len(shown.columns), *shown.cells]
        title = shown.title[:1].upper() + shown.title[1:]
        parts.append(f"**{title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
        parts += [shown.note] * bool(shown.note)
    return "\n\n".join(parts) + "\n"

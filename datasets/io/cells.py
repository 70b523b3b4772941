"""Cells of CSV files: how they are separated, and the words that stand for numbers or for nothing."""

import contextlib
import csv
import math
import re
from io import StringIO
from itertools import islice
from pathlib import Path

from .files import read_text

MAX_BYTES = 1 << 28  # of one file
MISSING = ("", "-1", "nan", "na", "n/a", "null", "<na>")  # what a table has in place of a label
PERHAPS = ("none", "unknown")  # may be a class
WHOLE = re.compile(r"[0-9]{1,9}")  # the number of a class
FLOAT = re.compile(r"-?[0-9]{1,15}(\.[0-9]{0,30}(e[+-]?[0-9]{1,2})?|e\+[0-9]{2}|,0{1,2})", re.IGNORECASE)
HEAD = 20  # rows by which the delimiter is chosen
_DECIMAL = re.compile(r",[0-9]")
_EXCEL = re.compile(r"sep=([,;\t])\s*\n", re.IGNORECASE)


def read_cells(path: Path) -> tuple[str, str]:
    """Return the text of a CSV file from its first row on, and what separates its cells: a comma, a semicolon or a tab.

    A first line ``sep=;`` of Excel may say it.
    """
    text = table_text(path).lstrip("\r\n")
    said = _EXCEL.match(text)
    return (text[said.end() :], said[1]) if said else (text, _delimiter(text))


def table_text(path: Path) -> str:
    """Return the text of a table of at most MAX_BYTES."""
    # As much memory as the file has bytes: to read up to a limit, Python allocates all of it.
    return read_text(path, min(MAX_BYTES, path.stat().st_size))


def whole(word: str) -> str:
    """Return a whole number that numpy, pandas or R wrote as a float in plain digits; other words as they are.

    Example:
        >>> [whole(word) for word in ("3.000e+00", "-1.0", "12.", "2,0", "1e+05", "0.5", "1,000", "007", "1e5", "a")]
        ['3', '-1', '12', '2', '100000', '0.5', '1,000', '007', '1e5', 'a']
    """
    number = float(word.replace(",", ".")) if FLOAT.fullmatch(word) else math.nan
    return str(int(number)) if number.is_integer() else word


def is_number(cell: str) -> bool:
    """Return whether a cell is a number, perhaps with a decimal comma, or a truth value."""
    if cell.strip().lower() in ("true", "false"):
        return True
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True


def _delimiter(text: str) -> str:
    """What separates cells: a mark that cuts the first rows into equally many; a comma may be a decimal one."""
    head = [*islice(StringIO(text), HEAD)]
    rows: dict[str, list[list[str]]] = {}
    for mark in ",;\t":
        with contextlib.suppress(csv.Error):  # a line that is too long for one cell
            rows[mark] = [row for row in csv.reader(head, delimiter=mark) if row]
    even = [mark for mark in rows if len({*map(len, rows[mark])}) == 1 < len(rows[mark][0])]
    for mark in even:
        with_comma = [cell for row in rows[mark][1:] or rows[mark] for cell in row if "," in cell]
        if mark != "," and all(map(_DECIMAL.search, with_comma)) and all(map(is_number, with_comma)):
            return mark
    return next(iter([*even, *(mark for mark in ",;\t" if mark in "".join(head[:1]))]), ",")

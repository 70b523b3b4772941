"""Numbers in text files: one row a line, in the ways in which programs write them."""

import re
import warnings
from collections.abc import Container
from io import BytesIO
from pathlib import Path

import numpy as np

from comhe.errors import DataError

HEAD = 1 << 14  # bytes in which the first row of numbers is looked for
MAX_HEADER = 20  # lines, the first row of numbers included
COMMENTS = ("#", "//", "%")


def plain_text(data: bytes) -> bytes:
    """Return a text in one byte a character, with lines that end in ``\\n`` and no mark of its encoding."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):  # what Windows calls Unicode
        data = data.decode("utf-16", "replace").encode()
    data = data.removeprefix(b"\xef\xbb\xbf")
    return data if b"\n" in data else data.replace(b"\r", b"\n")


def parse_table(data: bytes, path: Path, columns: Container[int]) -> np.ndarray:
    """Parse one row of numbers a line, to float64 [rows, columns].

    Numbers are separated by spaces, tabs, commas or semicolons (then a comma is a decimal one). Comments begin with #,
    // or %. A header may name the columns; if x, y and z are among them, these are the result. Labels in words after
    the numbers are dropped, as is a first line that is the number of rows. ``columns`` are the numbers of columns that
    are accepted.
    """
    data = plain_text(data)
    if b";" in data[:HEAD]:
        data = data.replace(b",", b".").replace(b";", b" ")
    data = data.replace(b",", b" ").replace(b'"', b"")
    skipped, chosen, count = _header(data[:HEAD])
    if any(mark in data for mark in (b"//", b"%")):
        data = re.sub(rb"(//|%)[^\n]*", b"", data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # numpy warns about an empty text
            table = np.loadtxt(BytesIO(data), ndmin=2, encoding="latin-1", skiprows=skipped, usecols=chosen)
    except ValueError as error:
        reason = " ".join(str(error).partition(";")[0].split())
        raise DataError(f"{path}: not a table of numbers ({reason[:160]})") from error
    if not table.size:
        raise DataError(f"{path}: contains no numbers")
    if count is not None and count != len(table):
        raise DataError(f"{path}: truncated: {len(table):,} rows, but its first line says {count:,}")
    if table.shape[1] not in columns:
        raise DataError(f"{path}: has {table.shape[1]} columns of numbers, which is not supported here")
    return table


def _header(head: bytes) -> tuple[int, list[int] | None, int | None]:
    """The lines to skip, the columns to read (None for all), and the number of rows if the first number alone says it.

    A header is lines without any number, of which the last one may name the columns.
    """
    names: list[str] = []
    counted: tuple[int, int] | None = None  # a line that is one number, and its number
    for number, line in enumerate(head.splitlines()[:MAX_HEADER]):
        text = line.decode("latin-1").strip().lower()
        comment = text.startswith(COMMENTS)
        words = text.lstrip("#/% ").split()
        numbers = [_is_number(word) for word in words]
        if comment or not any(numbers):
            names = words if {*"xyz"} <= {*words} else names
        elif len(words) == 1 and words[0].isdecimal() and len(words[0]) < 16 and counted is None:
            counted = number, int(words[0])
        else:
            if len(words) == 1:  # a column of numbers, of which the first is no count
                return counted[0] if counted else number, None, None
            leading = ([*numbers, False]).index(False)
            named = [names.index(axis) for axis in "xyz"] if len(names) == len(words) else None
            labeled = list(range(leading)) if 3 <= leading < len(words) else None
            return number, named or labeled, counted[1] if counted else None
    return 0, None, None


def _is_number(word: str) -> bool:
    try:
        return "_" not in word and float(word) is not None
    except ValueError:
        return False

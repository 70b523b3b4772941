"""Numbers in text files: one row a line, in the ways in which programs write them."""

import re
import warnings
from collections.abc import Container
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from comhe.errors import DataError

from .columns import choose_columns, find_axes

HEAD = 1 << 14  # bytes in which the first row of numbers is looked for
MAX_HEADER = 20  # lines, the first row of numbers included
COMMENTS = ("#", "//", "%")
SEPARATED = ";\t,"  # marks between cells that may be empty
_DECIMAL = re.compile(r"[+-]?\d+(,\d+)?(e[+-]?\d+)?")  # with a comma in place of the point
_QUOTED = re.compile(rb'"([^"\n]*)"')
_GROUPED = re.compile(rb"[+-]?\d{1,3}(,\d{3})+\.\d*|[+-]?\d{1,3}(,\d{3}){2,}")  # 1,000.5 or 1,000,000
_UNCLEAR = re.compile(rb"[+-]?[1-9]\d{0,2},\d{3}")  # 1,345 may be either
_COUNT = re.compile(rb"(?m)^[ \t]*(\d{1,15})[ \t]*\r?$")


def plain_text(data: bytes) -> bytes:
    """Return a text in one byte a character, with lines that end in ``\\n`` and no mark of its encoding."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):  # what Windows calls Unicode
        data = data.decode("utf-16", "replace").encode()
    data = data.removeprefix(b"\xef\xbb\xbf")
    return data if b"\n" in data else data.replace(b"\r", b"\n")


def parse_table(data: bytes, path: Path, columns: Container[int]) -> np.ndarray:
    """Parse one row of numbers a line, to float64 [rows, columns].

    Numbers are separated by spaces, tabs, commas or semicolons; commas are decimal ones if something else separates the
    numbers. Comments begin with #, // or %. A header may name the columns: those of the axes are then the result, see
    :func:`find_axes`. Labels in words before or after the numbers are dropped, as is a first line that is the number of
    rows, or of rows and columns; each part of a file of several scans may have its own. ``columns`` are the numbers of
    columns that are accepted.
    """
    data = _unquoted(plain_text(data), path)
    layout = _layout(data[:HEAD], path)
    if layout.decimal_commas:
        data = data.replace(b",", b".")
    if layout.mark is None:
        data = data.replace(b",", b" ").replace(b";", b" ")
    if any(mark in data for mark in (b"//", b"%")):
        data = re.sub(rb"(//|%)[^\n]*", b"", data)
    count = layout.count
    if count is not None:
        first, body = _after(data, layout.skipped)
        count += sum(int(each) for each in _COUNT.findall(body))
        data = first + _COUNT.sub(b"", body)
    options: Any = {"delimiter": layout.mark, "skiprows": layout.skipped, "usecols": layout.chosen}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # numpy warns about an empty text
            table = np.loadtxt(BytesIO(data), ndmin=2, encoding="latin-1", **options)
    except ValueError as error:
        reason = " ".join(str(error).partition(";")[0].split())
        raise DataError(f"{path}: not a table of numbers ({reason[:160]})") from error
    if not table.size:
        raise DataError(f"{path}: contains no numbers")
    if count is not None and count != len(table):
        what = "truncated" if len(table) < count else "too long"
        raise DataError(f"{path}: {what}: {len(table):,} rows, but its first line says {count:,}")
    if table.shape[1] not in columns:
        raise DataError(f"{path}: has {table.shape[1]} columns of numbers, which is not supported here")
    return table


def _unquoted(data: bytes, path: Path) -> bytes:
    """The text without quotes, and with points and no other marks in what were quoted cells."""
    if b'"' not in data:
        return data
    cells = {found[1].strip() for found in _QUOTED.finditer(data)}
    unclear = next(filter(_UNCLEAR.fullmatch, cells), None)
    is_grouped = any(map(_GROUPED.fullmatch, cells))
    clear = [cell.decode("latin-1").lower() for cell in cells if b"," in cell and not _UNCLEAR.fullmatch(cell)]
    is_decimal = any(map(_DECIMAL.fullmatch, clear))
    if unclear and is_grouped == is_decimal:
        word = unclear.decode("latin-1")
        raise DataError(f"{path}: {word!r} may be {word.replace(',', '')} or {word.replace(',', '.')}; write points")

    def plain(found: re.Match[bytes]) -> bytes:
        cell = found[1].strip()
        if _GROUPED.fullmatch(cell) or (is_grouped and _UNCLEAR.fullmatch(cell)):
            return cell.replace(b",", b"")
        if _DECIMAL.fullmatch(cell.decode("latin-1").lower()):
            return cell.replace(b",", b".")
        words = re.split(rb"[\s,;]+", cell)
        is_row = len(words) > 2 and all(_is_number(word.decode("latin-1")) for word in words)
        return cell if is_row else re.sub(rb"[\t,;]", b"_", cell)

    return _QUOTED.sub(plain, data).replace(b'"', b"")


@dataclass
class _Layout:
    """How a table is written; ``mark`` separates its cells, or spaces do (None)."""

    mark: str | None = None
    decimal_commas: bool = False
    skipped: int = 0  # lines before the first row
    chosen: list[int] | None = None  # columns to read; None for all
    count: int | None = None  # of rows, if the file says it


def _layout(head: bytes, path: Path) -> _Layout:
    """Find the first row of numbers, and what the lines before it say: names of columns, the number of rows."""
    header: tuple[list[str], bool] = [], False  # names, and whether they are a comment
    counted: list[tuple[int, list[str]]] = []  # first lines of one or two integers
    lines = [line.decode("latin-1") for line in head.splitlines()[:MAX_HEADER]]
    for number, line in enumerate(lines):
        text = line.strip(" \r")
        comment = text.startswith(COMMENTS)
        mark, cells, decimal = _cells(text.lstrip("#/% ") if comment else text, len(header[0]))
        numbers = [*map(_is_number, cells)]
        if comment or not any(numbers) or _is_numbering(cells, mark, lines[number + 1 :]):
            if any(cells) and (not header[0] or find_axes(header[0], path) is None or find_axes(cells, path)):
                header = cells, comment
            continue
        is_count = mark is None and len(cells) <= 2 and all(cell.isdecimal() and len(cell) < 16 for cell in cells)
        if is_count and len(counted) < 2:
            counted.append((number, cells))
            continue
        if len(cells) <= 2:  # a table of one or two columns, of which the first row is no count
            return _Layout(mark, decimal, counted[0][0] if counted else number)
        chosen = _chosen(*header, cells, path)
        if chosen is None and mark and text.endswith(mark):
            chosen = [*range(len(cells))]
        return _Layout(mark, decimal, number, chosen, _count_of(counted, len(cells), path))
    return _Layout(skipped=counted[0][0] if counted else 0)


def _cells(text: str, width: int = 0) -> tuple[str | None, list[str], bool]:
    """Split a line at its mark, or at spaces; and say whether its commas are decimal ones.

    ``width`` is the number of cells in the header: where there are as many between marks, a cell may be a name.
    """
    words = text.lower().split()
    if len(words) >= 3 and "," in text and ";" not in text and all(map(_DECIMAL.fullmatch, words)):
        return None, [word.replace(",", ".") for word in words], True
    for mark in SEPARATED:
        if mark in text:
            cells = [cell.strip() for cell in text.split(mark)]
            several = [[*map(_is_number, words)] for cell in cells if len(words := cell.split()) > 1]
            if any(map(all, several)) or (any(map(any, several)) and len(cells) != width):  # as in "1, 2 3"
                return None, re.split(r"[\s,;]+", text.strip(" ,;\t")), False
            while len(cells) > 1 and not cells[-1]:
                cells.pop()
            return mark, [cell.replace(",", ".") if mark == ";" else cell for cell in cells], mark == ";"
    return None, text.split(), False


def _is_numbering(cells: list[str], mark: str | None, following: list[str]) -> bool:
    """Whether a line is the header 0, 1, 2 ... that pandas writes of an array, alone or after an empty cell."""
    if mark is None or len(cells) < 3:
        return False
    if not cells[0]:
        return cells[1:] == [str(i) for i in range(len(cells) - 1)]
    is_numbered = cells == [str(i) for i in range(len(cells))]
    return is_numbered and bool(following) and "." in following[0] and len(_cells(following[0])[1]) == len(cells)


def _chosen(names: list[str], comment: bool, cells: list[str], path: Path) -> list[int] | None:
    """Return the columns to read, given the first row's cells and the header's names (a comment may be anything)."""
    numbers = [*map(_is_number, cells)]
    first = numbers.index(True)
    numeric = range(first, [*numbers, False].index(False, first))
    if names and len(names) == len(cells) and not (comment and find_axes(names, path) is None):
        return choose_columns(names, path)
    if names and not comment and find_axes(names, path) is not None:
        is_r = len(names) == len(cells) - 1 and len(numeric) == len(cells) and cells[0].isdecimal()
        if is_r:  # it names the rows, but not their names
            return [i + 1 for i in choose_columns(names, path)]
        if len(numeric) > 3:
            raise DataError(f"{path}: its header names {len(names)} columns, but its rows have {len(cells)}")
    return [*numeric] if 3 <= len(numeric) < len(cells) else None


def _count_of(counted: list[tuple[int, list[str]]], width: int, path: Path) -> int | None:
    """Return the number of rows that the lines before them say: alone, or with the number of columns."""
    values = [int(cell) for _, cells in counted for cell in cells]
    if len(values) > 2 or (len(values) == 2 and values[1] != width):
        hint = "a scanner's grid (PTX) is not read; save it as PTS, XYZ or PLY"
        raise DataError(f"{path}: begins with {' '.join(map(str, values))}, which is not a number of rows: {hint}")
    return values[0] if values else None


def _after(data: bytes, lines: int) -> tuple[bytes, bytes]:
    """Split a text behind so many lines."""
    end = 0
    for _ in range(lines):
        end = data.find(b"\n", end) + 1
    return data[:end], data[end:]


def _is_number(word: str) -> bool:
    try:
        return "_" not in word and float(word) is not None
    except ValueError:
        return False

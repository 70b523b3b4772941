"""Tables of numbers in text files."""

from __future__ import annotations

import warnings
from collections.abc import Container
from io import BytesIO
from pathlib import Path

import numpy as np

from comhe.errors import DataError

from .files import read_bounded

MAX_LIST_BYTES = 1 << 22


def parse_table(data: bytes, path: Path, columns: Container[int]) -> np.ndarray:
    """Parse one row of numbers a line, separated by commas or spaces, with # for comments, to float64 [rows, columns].

    ``columns`` are the numbers of columns that are accepted.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # numpy warns about an empty text
            table = np.loadtxt(BytesIO(data.replace(b",", b" ")), ndmin=2, encoding="latin-1")
    except ValueError as error:
        reason = " ".join(str(error).partition(";")[0].split())
        raise DataError(f"{path}: not a table of numbers ({reason[:160]})") from error
    if not table.size:
        raise DataError(f"{path}: contains no numbers")
    if table.shape[1] not in columns:
        raise DataError(f"{path}: has {table.shape[1]} columns of numbers, which is not supported here")
    return table


def read_lines(path: Path) -> list[str]:
    """Read the lines of a list file without surrounding space; a missing, empty or repeated line is a DataError."""
    try:
        lines = [line.strip() for line in read_bounded(path, MAX_LIST_BYTES).decode().splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file (byte {error.start})") from error
    if not lines:
        raise DataError(f"{path}: empty")
    seen = set()
    for number, line in enumerate(lines, 1):
        if not line or line in seen:
            raise DataError(f"{path}: line {number} {'repeats ' + repr(line) if line else 'is empty'}")
        seen.add(line)
    return lines

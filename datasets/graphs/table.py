"""One CSV file: its cells, and what its columns are called."""

import csv
import re
from collections.abc import Iterator
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from comhe.datasets.io.cells import MISSING, PERHAPS, is_number, read_cells
from comhe.errors import DataError

INDEX = ("", "unnamed: 0", "index")  # what pandas and R call the numbers of rows
ID = ("id", "node", "node_id", "nodeid", "node id", "name", *INDEX)
LABEL = ("y", "label", "class", "target")
SPLIT = ("split",)
SOURCE, TARGET = ("source", "src", "from"), ("target", "dst", "to")
WEIGHT = ("weight", "edge_weight")
_TRUTH = re.compile(r'(?<![^,;\t\n"])(true|false)(?![^,;\t\r\n"])', re.IGNORECASE)  # a cell of its own
EDGE = (*SOURCE, *TARGET, *WEIGHT)


class Table:
    """The rows of a CSV file, all of one length, and its header if it has one.

    The first row is a header if it has a word where the second row has a number, or a word that is the name of a column
    here. The row 0, 1, 2 ... is ``numbered``: pandas writes it as the header of an array, but it may be data as well;
    other tables decide.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text, self.delimiter = read_cells(path)
        if self.text.partition("\n")[0].rstrip("\r").endswith(self.delimiter):
            self._drop_empty_column()
        first, second = [*islice(self._rows(), 2), [], []][:2]
        if not first:
            raise DataError(f"{path}: empty")
        names = [cell.strip().lstrip("#% ").lower() for cell in first]
        known = {*ID, *LABEL, *SPLIT, *EDGE} & set(names)
        words = any(not is_number(a) and is_number(b) for a, b in zip(first, second, strict=False))
        self.names = _named(names) if (known and known != {""}) or words else []
        self.header = int(bool(self.names))  # rows above the data
        self.numbered = not self.names and names == [str(i) for i in range(len(first))]
        self.width = len(first)
        self.used: set[int] = set()

    def column(self, names: tuple[str, ...]) -> int | None:
        """The position of the first column with one of these names, in the order of the names."""
        return next((self.names.index(name) for name in names if name in self.names), None)

    def columns(self) -> list[int]:
        """The positions of all columns but numbers of rows."""
        return [i for i in range(self.width) if not self.names or self.names[i] not in INDEX]

    def count(self) -> int:
        """The number of rows below the header."""
        return sum(1 for _ in self._rows()) - self.header

    def unused(self) -> list[str]:
        """The names of columns that nobody has read, other than numbers of rows."""
        return [name for i, name in enumerate(self.names) if i not in self.used and name not in INDEX]

    def words(self, *columns: int) -> list[list[str]]:
        """The cells of columns, row by row."""
        self.used.update(columns)
        result = []
        for number, row in enumerate(self._rows(), 1):
            if len(row) != self.width:
                raise DataError(f"{self.path}: row {number} has {len(row)} cells, the first has {self.width}")
            if number > self.header:
                result.append([row[column].strip() for column in columns])
        return result

    def cells(self, column: int) -> list[str]:
        """The cells of one column."""
        return [cell for (cell,) in self.words(column)]

    def peek(self, column: int) -> list[str]:
        """The cells of a column, which does not count as used."""
        used = {*self.used}
        cells = self.cells(column)
        self.used = used
        return cells

    def ends(self) -> list[int | None]:
        """The columns of sources, targets and weights of edges: by their names, or in the usual order."""
        ends = [self.column(names) for names in (SOURCE, TARGET, WEIGHT)]
        columns = self.columns()
        if ends == [None] * 3 and (len(columns) == 2 or (len(columns) == 3 and not self.names)):
            return [*columns, None][:3]
        return ends

    def numbers(self, columns: list[int]) -> np.ndarray:
        """The numbers in columns, float32 [rows, columns]."""
        self.words(*columns[:1])  # its error for rows of unequal length says more than numpy's
        self.used.update(columns)
        text = self.text if self.delimiter == "," else self.text.replace(",", ".")  # decimal commas
        text = _TRUTH.sub(lambda found: str(int(found[0].lower() == "true")), text)  # as pandas writes them
        options: Any = {"delimiter": self.delimiter, "skiprows": self.header, "quotechar": '"'}
        try:
            return np.loadtxt(
                StringIO(text), np.float32, usecols=columns, ndmin=2, comments=None, encoding=None, **options
            )
        except ValueError as error:
            reason = self._odd(columns) or f" ({' '.join(str(error).partition(';')[0].split())[:160]})"
            raise DataError(f"{self.path}: not a table of numbers{reason}") from error

    def _odd(self, columns: list[int]) -> str:
        """Return the place of the first cell that is not a number, and what to do."""
        for number, row in enumerate(self._rows(), 1):
            for column in columns if number > self.header else ():
                cell = row[column].strip()
                if not is_number(cell) or self.delimiter == "," in cell:
                    hint = "; give numbers, such as 0, for what is missing"
                    is_missing = cell.lower() in (*MISSING, *PERHAPS)
                    where = f"column {self.names[column]!r}" if self.names else f"column {column + 1}"
                    return f": row {number} has {cell[:40]!r} in {where}{hint * is_missing}"
        return ""

    def _drop_empty_column(self) -> None:
        """Drop a last column that is empty in every row, as where all rows end with a delimiter."""
        lines = self.text.splitlines()
        if all(line.endswith(self.delimiter) for line in lines if line):
            self.text = "\n".join(line.removesuffix(self.delimiter) for line in lines)

    def _rows(self) -> Iterator[list[str]]:
        try:
            yield from (row for row in csv.reader(StringIO(self.text), delimiter=self.delimiter) if row)
        except csv.Error as error:
            raise DataError(f"{self.path}: not a CSV file ({error})") from error


def _named(names: list[str]) -> list[str]:
    """Name columns without a name as pandas does, but the first ones: these number the rows, or name them."""
    rows = next((i for i, name in enumerate(names) if name not in INDEX), len(names))
    return [name or f"unnamed: {i}" * (i >= rows) for i, name in enumerate(names)]

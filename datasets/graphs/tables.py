"""Graphs as folders of CSV files: edges, features, labels and perhaps a split."""

import csv
import warnings
from collections.abc import Iterator
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from comhe.datasets.io.files import read_bounded
from comhe.datasets.io.layouts import children
from comhe.errors import DataError

MAX_BYTES = 1 << 28  # of one file
FILES = {  # the first of these that a folder has
    "edges": ("edges.csv", "edge.csv", "edgelist.csv", "edge_list.csv"),
    "features": ("features.csv", "nodes.csv", "node-feat.csv", "node_features.csv"),
    "labels": ("labels.csv", "node-label.csv", "node_labels.csv", "classes.csv"),
    "split": ("split.csv", "splits.csv"),
    "train": ("train.csv",),
    "val": ("val.csv", "valid.csv", "validation.csv"),
    "test": ("test.csv",),
}
INDEX = ("", "unnamed: 0", "index")  # what pandas and R call the numbers of rows
ID = ("id", "node", "node_id", "nodeid", "node id", "name", *INDEX)
LABEL = ("y", "label", "class", "target")
SPLIT = ("split",)
SOURCE, TARGET = ("source", "src", "from"), ("target", "dst", "to")
WEIGHT = ("weight", "edge_weight")
EDGE = (*SOURCE, *TARGET, *WEIGHT)
SPLITS_OF_NODES = ("train", "val", "test")
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


class Table:
    """The rows of a CSV file, all of one length, and its header if it has one.

    The first row is a header if it has a word where the second row has a number, or a word that is the name of a column
    here. The row 0, 1, 2 ... is ``numbered``: pandas writes it as the header of an array, but it may be data as well;
    other tables decide. Commas, semicolons and tabs separate cells.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # As much memory as the file has bytes: to read up to a limit, Python allocates all of it.
            self.text = read_bounded(path, min(MAX_BYTES, path.stat().st_size)).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not a text file (byte {error.start})") from error
        line = self.text.partition("\n")[0]
        self.delimiter = next((mark for mark in ",;\t" if mark in line), ",")
        first, second = [*islice(self._rows(), 2), [], []][:2]
        if not first:
            raise DataError(f"{path}: empty")
        names = [cell.strip().lstrip("#% ").lower() for cell in first]
        known = {*ID, *LABEL, *SPLIT, *EDGE} & set(names)
        words = any(not _is_number(a) and _is_number(b) for a, b in zip(first, second, strict=False))
        self.names = names if (known and known != {""}) or words else []
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

    def numbers(self, columns: list[int]) -> np.ndarray:
        """The numbers in columns, float32 [rows, columns]."""
        self.words(*columns[:1])  # its error for rows of unequal length says more than numpy's
        self.used.update(columns)
        text = self.text if self.delimiter == "," else self.text.replace(",", ".")  # decimal commas
        options: Any = {"delimiter": self.delimiter, "skiprows": self.header, "quotechar": '"'}
        try:
            return np.loadtxt(
                StringIO(text), np.float32, usecols=columns, ndmin=2, comments=None, encoding=None, **options
            )
        except ValueError as error:
            reason = " ".join(str(error).partition(";")[0].split())[:160]
            raise DataError(f"{self.path}: not a table of numbers ({reason})") from error

    def _rows(self) -> Iterator[list[str]]:
        try:
            yield from (row for row in csv.reader(StringIO(self.text), delimiter=self.delimiter) if row)
        except csv.Error as error:
            raise DataError(f"{self.path}: not a CSV file ({error})") from error


def read_tables(folder: Path, labeled: bool = True) -> dict[str, Any]:
    """Read the files of FILES in a folder: edges, features, and labels unless ``features`` has them.

    Rows of features, labels and split are the nodes 0, 1, ... in this order, or those that a column ``id`` names (or
    one without a name, as pandas writes it); without a header, the first of two columns of labels or split is that
    column. A first column of another name, or of none, is taken for it with a warning if its words are all different
    and name the ends of all edges. Edges are two columns, and perhaps a third of weights. A split is a word for each
    node in split.csv, or the nodes of each part in train.csv, valid.csv and test.csv, as OGB has them. A warning names
    what is not used. Without ``labeled``, labels and splits are not needed. They only help to tell which first rows are
    headers.
    """
    tables = {kind: table for kind in FILES if (table := _find(folder, kind)) is not None}
    _check_split(tables, folder)
    for kind in ("edges", "features"):
        if kind not in tables:
            raise DataError(f"{folder}: has no {FILES[kind][0]}; a graph is edges.csv, features.csv and labels.csv")
    features = tables["features"]
    if features.numbered:
        features.header = int(_is_header(features, tables))
    special = {name: features.column(names) for name, names in (("id", ID), ("labels", LABEL), ("split", SPLIT))}
    if special["id"] is None and _names_the_nodes(tables):
        special["id"] = 0
        _tell_ids(features)
    numbering = [i for i, name in enumerate(features.names) if name in INDEX]
    others = [i for i in range(features.width) if i not in (*special.values(), *numbering)]
    if not others:
        raise DataError(f"{features.path}: has no column of features; give each node's degree, for example")
    x = features.numbers(others)
    ids = [str(i) for i in range(len(x))] if special["id"] is None else _cells(features, special["id"])
    numbers = {each: i for i, each in enumerate(ids)}
    if len(numbers) < len(ids):
        raise DataError(f"{features.path}: two rows have the same id")
    _find_headers(tables, numbers)
    found: dict[str, Any] = {"x": x} | _edges(tables["edges"], numbers)
    if ids != [str(i) for i in range(len(ids))]:
        found["node_names"] = np.array(ids)
    if not labeled:
        features.used.update(column for column in special.values() if column is not None)
        _tell_unused(folder, [features, tables["edges"]], {table.path.name for table in tables.values()})
        return found
    for kind, target in (("labels", "y"), ("split", "split")):
        if kind in tables:
            found[target] = _by_node(tables[kind], numbers, LABEL if kind == "labels" else SPLIT)
        elif (column := special[kind]) is not None:
            found[target] = np.array(_cells(features, column), dtype=np.str_)
    if "y" not in found:
        raise DataError(f"{folder}: has no labels.csv, and {features.path.name} no column named label")
    found |= _masks(found.pop("split", None), folder)
    for split in SPLITS_OF_NODES:
        if split in tables:
            found[split] = _listed(tables[split], numbers)
    _tell_unused(folder, [*tables.values()], {table.path.name for table in tables.values()})
    return found


def _names_the_nodes(tables: dict[str, Table]) -> bool:
    """Whether the first column of features are ids without saying so: all different, and every edge's ends in them."""
    features, edges = tables["features"], tables["edges"]
    if features.width < 2 or features.numbered or (features.names and features.names[0] in (*LABEL, *SPLIT)):
        return False
    cells = _peek(features, 0)
    known = set(cells)
    if len(known) < max(len(cells), 4):  # three nodes may have the features 0, 1 and 2
        return False
    source, target, _ = _ends(edges)
    if source is None or target is None:
        return False
    rows = edges.words(source, target)
    rows = rows[1:] if rows and not edges.names and not {*rows[0]} <= known else rows  # words above words
    return bool(rows) and {node for row in rows for node in row} <= known


def _tell_ids(table: Table) -> None:
    column = f"column {table.names[0]!r}" if table.names else "first column"
    warnings.warn(f"{table.path}: its {column} is taken for the ids of the nodes; call it id", stacklevel=4)


def _is_header(features: Table, tables: dict[str, Table]) -> bool:
    """Whether the first row 0, 1, 2 ... of features is a header, as other rows and other tables say."""
    if features.width > 2:
        return True
    possible = {rows := features.count(), rows - 1}
    for kind in ("labels", "split"):
        if kind in tables and (table := tables[kind]).column(ID) is None and (table.names or table.width == 1):
            possible &= {table.count(), table.count() - table.numbered}
    if len(possible) < 2:
        return possible == {rows - 1}
    edges = tables["edges"]
    ends = [end for names in (SOURCE, TARGET) if (end := edges.column(names)) is not None]
    ends = ends or edges.columns()[:2]
    rest = edges.words(*ends)[edges.numbered :]
    if {"0", str(rows - 1)} <= {node for row in rest for node in row}:
        return False  # nodes are numbered from 0, and the last one needs all rows
    columns = zip(*features.words(*range(features.width))[1:], strict=True)
    if any(not any(cell.lstrip("+-").isdigit() for cell in column) for column in columns):
        return True  # a column of decimal fractions
    raise _ambiguous(features, "a node", ",".join("ab"[: features.width]))


def _find_headers(tables: dict[str, Table], numbers: dict[str, int]) -> None:
    """Decide of the first rows 0, 1 ... of all tables but features whether they are headers."""
    features, labels, edges = tables["features"], tables.get("labels"), tables["edges"]
    for kind in ("labels", "split", "edges"):
        if kind in tables and not (table := tables[kind]).names and table.width in (2, 3):
            known = [node in numbers for node in _peek(table, 0)]
            table.header = max(table.header, int(len(known) > 1 and known == [False] + [True] * (len(known) - 1)))
    for kind in ("labels", "split"):
        if kind in tables and (table := tables[kind]).numbered:
            ids = [node for (node,) in table.words(0)]
            by_node = table.width == 2
            table.header = int("0" not in numbers or "0" in ids[1:] if by_node else len(ids) == len(numbers) + 1)
    lists = [tables[split] for split in SPLITS_OF_NODES if split in tables and tables[split].numbered]
    for table in lists:  # a node is listed once, and in one of them
        table.header = int(len(lists) > 1 or "0" not in numbers or ["0"] in table.words(0)[1:])
    if edges.numbered and edges.width in (2, 3):
        rest = {(source, target) for source, target in edges.words(0, 1)[1:]}
        one_way = {(source, target) for source, target in rest if (target, source) not in rest}
        completes = one_way == {("1", "0")}  # with the first row, every edge goes both ways
        complete = bool(rest) and not one_way  # without it, they do
        default = any(table is not None and table.numbered and table.header for table in (features, labels))
        default = default and (labels is None or labels.header > 0)  # the other tables have such headers
        if not {"0", "1"} <= numbers.keys() or (default and complete):
            edges.header = 1
        elif not completes and (default or complete):
            raise _ambiguous(edges, "an edge", "source,target" + ",weight" * (edges.width == 3))


def _ambiguous(table: Table, kind: str, names: str) -> DataError:
    row = table.delimiter.join(map(str, range(table.width)))
    fix = f"write {names} above it if it is {kind}, and in its place if it is a header"
    return DataError(f"{table.path}: its first row, {row}, may be {kind} or a header; {fix}")


def _check_split(tables: dict[str, Table], folder: Path) -> None:
    lists = [tables[split].path.name for split in SPLITS_OF_NODES if split in tables]
    if lists and "split" in tables:
        raise DataError(f"{folder}: has both {tables['split'].path.name} and {lists[0]}; leave one of them out")


def _listed(table: Table, numbers: dict[str, int]) -> np.ndarray:
    """The nodes that a file of a split lists, in the column ``id``, or in the only one besides numbers of rows."""
    columns = table.columns()
    column = table.column(ID[: -len(INDEX)]) if len(columns) > 1 else columns[0] if columns else 0
    if column is None:
        raise DataError(f"{table.path}: has {table.width} columns, none of them named id")
    return np.array([_number(node, numbers, table) for node in _cells(table, column)], dtype=np.int64)


def _tell_unused(folder: Path, tables: list[Table], names: set[str]) -> None:
    """Warn of files without one of these names, and of columns of tables, that are passed over."""
    found = [child.name for child in children(folder) if child.name not in names]
    found += [f"{name} in {table.path.name}" for table in tables for name in table.unused()]
    if found:
        warnings.warn(f"{folder}: not used: {', '.join(found)[:300]}", stacklevel=4)


def _find(folder: Path, kind: str) -> Table | None:
    for name in FILES[kind]:
        if (folder / name).exists():
            return Table(folder / name)
        if (packed := folder / f"{name}.gz").exists():
            raise DataError(f"{packed}: compressed files of a graph are not read; unpack it to {name}")
    return None


def _cells(table: Table, column: int) -> list[str]:
    return [cell for (cell,) in table.words(column)]


def _peek(table: Table, column: int) -> list[str]:
    """The cells of a column, which does not count as used."""
    used = {*table.used}
    cells = _cells(table, column)
    table.used = used
    return cells


def _by_node(table: Table, numbers: dict[str, int], names: tuple[str, ...]) -> np.ndarray:
    """The words of a table of labels or splits by node; an empty word for a node that it leaves out."""
    ids, value = table.column(ID), table.column(names)
    if ids is not None and table.names[ids] in INDEX and value is not None and not _are_nodes(table, ids, numbers):
        ids = None  # numbers of rows, where nodes have names
    if ids is None and value not in (None, 0) and table.width > 1 and {*_peek(table, 0)} == {*numbers}:
        ids = 0
        _tell_ids(table)
    if value is None and table.width <= 2:
        ids, value = (0 if table.width == 2 else None), table.width - 1
    if value is None:
        raise DataError(f"{table.path}: has {table.width} columns, none of them named {names[0]}")
    words = _cells(table, value)
    if ids is None:
        if len(words) != len(numbers):
            raise DataError(f"{table.path}: has {len(words)} rows, but there are {len(numbers)} nodes; add a column id")
        return np.array(words)
    result = [""] * len(numbers)
    for node, word in zip(_cells(table, ids), words, strict=True):
        result[_number(node, numbers, table)] = word
    return np.array(result)


def _are_nodes(table: Table, column: int, numbers: dict[str, int]) -> bool:
    cells = _cells(table, column)
    return cells != [str(i) for i in range(len(cells))] or all(cell in numbers for cell in cells)


def _ends(table: Table) -> list[int | None]:
    """The columns of sources, targets and weights of edges: by their names, or in the usual order."""
    ends = [table.column(names) for names in (SOURCE, TARGET, WEIGHT)]
    columns = table.columns()
    if ends == [None] * 3 and (len(columns) == 2 or (len(columns) == 3 and not table.names)):
        return [*columns, None][:3]
    return ends


def _edges(table: Table, numbers: dict[str, int]) -> dict[str, np.ndarray]:
    columns = table.columns()
    source, target, weight = _ends(table)
    if source is None or target is None or len(columns) > 2 + (weight is not None):
        found = ", ".join(table.names) or f"{table.width} columns"
        raise DataError(f"{table.path}: has {found[:80]}, not source, target and perhaps weight")
    pairs = [[_number(node, numbers, table) for node in row] for row in table.words(source, target)]
    edges = {"edge_index": np.array(pairs, dtype=np.int64).reshape(-1, 2).T}
    return edges if weight is None else edges | {"edge_weight": table.numbers([weight])[:, 0]}


def _masks(words: np.ndarray | None, folder: Path) -> dict[str, np.ndarray]:
    if words is None:
        return {}
    known = np.array([SPLITS.get(word.lower(), word) for word in words.tolist()])
    if odd := sorted(set(known.tolist()) - {"train", "val", "test", "", "none", "nan"}):
        raise DataError(f"{folder}: a node's split is train, val, test or empty, not {odd[0][:40]!r}")
    return {f"{split}_mask": known == split for split in ("train", "val", "test") if (known == split).any()}


def _number(node: str, numbers: dict[str, int], table: Table) -> int:
    if node not in numbers:
        raise DataError(
            f"{table.path}: {node[:40]!r} is not a node of the {len(numbers)} that have features; "
            "their numbers are those of the rows, unless a column id names them"
        )
    return numbers[node]


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))  # a decimal comma
    except ValueError:
        return False
    return True

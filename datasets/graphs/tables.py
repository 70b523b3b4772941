"""Graphs as folders of CSV files: edges, features, labels and perhaps a split."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from comhe.datasets.io.cells import whole
from comhe.datasets.io.layouts import SPLIT_NAMES, children
from comhe.errors import DataError, few, warn

from .fields import drawn_hint, split_masks
from .headers import find_headers, is_header, names_the_nodes, tell_ids
from .splits import SPLITS
from .table import ID, INDEX, LABEL, SPLIT, Table

FILES = {  # the first of these that a folder has
    "edges": ("edges.csv", "edge.csv", "edgelist.csv", "edge_list.csv"),
    "features": ("features.csv", "nodes.csv", "node-feat.csv", "node_features.csv"),
    "labels": ("labels.csv", "node-label.csv", "node_labels.csv", "classes.csv"),
    "split": ("split.csv", "splits.csv"),
    **{split: tuple(f"{word}.csv" for word in words) for split, words in SPLIT_NAMES.items()},
}
MASKS = {split: (*(f"{word}_mask" for word in words), *words) for split, words in SPLIT_NAMES.items()}
FLAGS = {"1": True, "1.0": True, "1,0": True, "true": True} | dict.fromkeys(("0", "0.0", "0,0", "false", ""), False)


def read_tables(folder: Path, labeled: bool = True) -> dict[str, Any]:
    """Read the files of FILES in a folder: edges, features, and labels unless ``features`` has them.

    Rows of features, labels and split are the nodes 0, 1, ... in this order, or those that a column ``id`` names
    (or one without a name, as pandas writes it); without a header, the first of two columns of labels or split is
    that column. A first column of another name, or of none, is taken for it with a warning if its words are all
    different and name the ends of all edges. Edges are two columns, and perhaps a third of weights. A split is a
    word for each node in split.csv, or the nodes of each part in train.csv, valid.csv and test.csv, as OGB has
    them, or a mask in each; or columns ``train_mask``, ``val_mask`` and ``test_mask`` of split.csv or of features
    (or ``train`` ...), of 0 and 1 or of True and False. Splits have any of their usual names, such as ``training``. A
    warning names what is not used. Without ``labeled``, labels and splits are not needed. They only help to tell which
    first rows are headers.
    """
    present = _present(folder)
    tables = {kind: table for kind in FILES if (table := _find(present, kind)) is not None}
    _check_split(tables, folder)
    for kind in ("edges", "features"):
        if kind not in tables:
            raise DataError(f"{folder}: has no {FILES[kind][0]}; a graph is edges.csv, features.csv and labels.csv")
    features = tables["features"]
    if features.numbered:
        features.header = int(is_header(features, tables))
    special = {name: features.column(names) for name, names in (("id", ID), ("labels", LABEL), ("split", SPLIT))}
    if special["id"] is None and names_the_nodes(tables):
        special["id"] = 0
        tell_ids(features)
    special |= (masks := _mask_columns(features, tables))
    numbering = [i for i, name in enumerate(features.names) if name in INDEX]
    others = [i for i in range(features.width) if i not in (*special.values(), *numbering)]
    if not others:
        raise DataError(f"{features.path}: has no column of features; give each node's degree, for example")
    x = features.numbers(others)
    ids = [str(i) for i in range(len(x))] if special["id"] is None else features.cells(special["id"])
    if all(map(str.isdecimal, numerals := [whole(each) for each in ids])):
        ids = numerals  # pandas writes a column of numbers with a gap as floats
    numbers = {each: i for i, each in enumerate(ids)}
    if len(numbers) < len(ids):
        raise DataError(f"{features.path}: two rows have the same id")
    find_headers(tables, numbers)
    found: dict[str, Any] = {"x": x} | _edges(tables["edges"], numbers)
    names = [features.names[i] for i in others] if features.names else []
    if len({*names} - {""}) == len(others):
        found["feature_names"] = np.array(names)
    if ids != [str(i) for i in range(len(ids))]:
        found["node_names"] = np.array(ids)
    if not labeled:
        features.used.update(column for column in special.values() if column is not None)
        _tell_unused(folder, [features, tables["edges"]], {table.path.name for table in tables.values()})
        return found
    flags = _masks(tables["split"]) if "split" in tables and tables["split"].column(SPLIT) is None else {}
    found |= {f"{split}_mask": _flags(tables["split"], column, numbers) for split, column in flags.items()}
    for kind, target in (("labels", "y"), ("split", "split"))[: 1 if flags else 2]:
        if kind in tables:
            found[target] = _by_node(tables[kind], numbers, LABEL if kind == "labels" else SPLIT)
        elif (column := special[kind]) is not None:
            found[target] = np.array(features.cells(column), dtype=np.str_)
    if "y" not in found:
        raise DataError(f"{folder}: has no labels.csv, and {features.path.name} no column named label")
    if "split" in found:
        found |= split_masks(found.pop("split"), str(folder))
    found |= {f"{split}_mask": _flags(features, column) for split, column in masks.items()}
    for split in SPLITS:
        if split in tables:
            found[split] = _listed(tables[split], numbers, split)
    drawn = not any(split in found or f"{split}_mask" in found for split in SPLITS)
    _tell_unused(folder, [*tables.values()], {table.path.name for table in tables.values()}, drawn)
    return found


def _check_split(tables: dict[str, Table], folder: Path) -> None:
    lists = [tables[split].path.name for split in SPLITS if split in tables]
    if lists and "split" in tables:
        raise DataError(f"{folder}: has both {tables['split'].path.name} and {lists[0]}; leave one of them out")


def _mask_columns(features: Table, tables: dict[str, Table]) -> dict[str, int]:
    """The columns that are masks of the splits: of train and another, for ``test`` alone may be a feature."""
    found = _masks(features)
    bare = [column for split, column in found.items() if not features.names[column].endswith("_mask")]
    if any(cell.lower() not in FLAGS for column in bare for cell in features.peek(column)):
        return {}  # how often each node trains, say
    others = [tables[kind].path.name for kind in ("split", *SPLITS) if kind in tables]
    others += [f"the column {SPLIT[0]}"] if features.column(SPLIT) is not None else []
    if found and (other := next(iter(others), None)):
        name = features.names[found["train"]]
        raise DataError(f"{features.path}: has the split in {name} ..., and so has {other}; leave one of them out")
    return found


def _masks(table: Table) -> dict[str, int]:
    """The columns that are called like masks of the splits: of train and another."""
    found = {split: column for split in SPLITS if (column := table.column(MASKS[split])) is not None}
    return found if "train" in found and len(found) > 1 else {}


def _flags(table: Table, column: int, numbers: dict[str, int] | None = None) -> np.ndarray:
    """The flags in a column, in the order of rows, or by node."""
    by_node = None if numbers is None else _by_node(table, numbers, (table.names[column],))
    cells = table.cells(column) if by_node is None else by_node.tolist()
    if odd := next((cell for cell in cells if cell.lower() not in FLAGS), None):
        raise DataError(f"{table.path}: {table.names[column]} is 0 or 1 for each node, not {odd[:40]!r}")
    return np.array([FLAGS[cell.lower()] for cell in cells])


def _listed(table: Table, numbers: dict[str, int], split: str) -> np.ndarray:
    """The nodes that a file of a split lists, in the column ``id``, or in the only one besides numbers of rows.

    A column ``mask`` next to these, or the only one if it has 0 or 1 for every node, is their mask.
    """
    columns = table.columns()
    mask = table.column(("mask", f"{split}_mask")) if len(columns) > 1 else None
    cells = table.peek(columns[0]) if len(columns) == 1 else []
    if len(cells) == len(numbers) > 2 and all(cell.lower() in FLAGS for cell in cells):
        mask = columns[0]
    if mask is not None:
        return _flags(table, mask, numbers if table.width > 1 else None)
    column = table.column(ID[: -len(INDEX)]) if len(columns) > 1 else columns[0] if columns else 0
    if column is None:
        raise DataError(f"{table.path}: has {table.width} columns, none of them named id")
    return np.array([_number(node, numbers, table) for node in table.cells(column)], dtype=np.int64)


def _tell_unused(folder: Path, tables: list[Table], names: set[str], drawn: bool = False) -> None:
    """Warn of files without one of these names, and of columns of tables, that are passed over."""
    found = [child.name for child in children(folder) if child.name not in names]
    found += [f"{name} in {table.path.name}" for table in tables for name in table.unused()]
    if found:
        hint = drawn_hint(found, "split.csv, or train.csv, valid.csv and test.csv") if drawn else ""
        warn(f"{folder}: not used: {few(found, 8)}{hint}")


def _present(folder: Path) -> dict[str, Path]:
    """The files of a folder by name; without edges under one, also those in another case or with ``.tsv``."""
    found = {child.name: child for child in children(folder) if os.path.isfile(child)}
    if found.keys().isdisjoint(FILES["edges"]):
        others = {name.lower().replace(".tsv", ".csv"): found[name] for name in sorted(found, reverse=True)}
        found = others | found  # a name as it should be before any other, and CSV before the rest
    return found


def _find(present: dict[str, Path], kind: str) -> Table | None:
    for name in FILES[kind]:
        if path := present.get(name):
            return Table(path)
        if packed := present.get(f"{name}.gz"):
            raise DataError(f"{packed}: compressed files of a graph are not read; unpack it to {name}")
    return None


def _by_node(table: Table, numbers: dict[str, int], names: tuple[str, ...]) -> np.ndarray:
    """The words of a table of labels or splits by node; an empty word for a node that it leaves out."""
    ids, value = table.column(ID), table.column(names)
    if ids is not None and table.names[ids] in INDEX and value is not None and not _are_nodes(table, ids, numbers):
        ids = None  # numbers of rows, where nodes have names
    if ids is None and value not in (None, 0) and table.width > 1:
        firsts = {each if each in numbers else whole(each) for each in table.peek(0)}
        if firsts == {*numbers}:
            ids = 0
            tell_ids(table)
    if value is None and table.width <= 2:
        ids, value = (0 if table.width == 2 else None), table.width - 1
    if value is None:
        raise DataError(f"{table.path}: has {table.width} columns, none of them named {names[0]}")
    words = table.cells(value)
    if ids is None:
        if len(words) != len(numbers):
            raise DataError(f"{table.path}: has {len(words)} rows, but there are {len(numbers)} nodes; add a column id")
        return np.array(words)
    found: dict[int, str] = {}
    for node, word in zip(table.cells(ids), words, strict=True):
        number = _number(node, numbers, table)
        if found.setdefault(number, word) != word:
            raise DataError(f"{table.path}: node {node[:40]!r} has two rows, with {found[number]!r} and {word!r}")
    return np.array([found.get(number, "") for number in range(len(numbers))])


def _are_nodes(table: Table, column: int, numbers: dict[str, int]) -> bool:
    cells = [*map(whole, table.cells(column))]
    return cells != [str(i) for i in range(len(cells))] or all(cell in numbers for cell in cells)


def _edges(table: Table, numbers: dict[str, int]) -> dict[str, np.ndarray]:
    columns = table.columns()
    source, target, weight = table.ends()
    others = [table.names[i] for i in columns if i not in (source, target, weight)] if table.names else []
    if source is None or target is None or any(name.startswith("unnamed: ") for name in others):
        found = ", ".join(table.names) or f"{table.width} columns"
        raise DataError(f"{table.path}: has {found[:80]}, not source, target and perhaps weight")
    pairs = [[_number(node, numbers, table) for node in row] for row in table.words(source, target)]
    edges = {"edge_index": np.array(pairs, dtype=np.int64).reshape(-1, 2).T}
    return edges if weight is None else edges | {"edge_weight": table.numbers([weight])[:, 0]}


def _number(node: str, numbers: dict[str, int], table: Table) -> int:
    number = numbers.get(node)
    if number is None:
        number = numbers.get(whole(node))
    if number is None:
        alike = next((each for each in numbers if _is_alike(each, node)), None)
        hint = "their numbers are those of the rows, from 0, unless a column id names them"
        if alike is not None:
            hint = f"{alike!r} is, so write both in the same way"
        raise DataError(f"{table.path}: {node[:40]!r} is not a node of the {len(numbers)} that have features; {hint}")
    return number


def _is_alike(node: str, other: str) -> bool:
    """Whether two words are the same but for their case or for zeros in front, as in 007."""
    plain, wanted = (word.casefold().lstrip("0") or word[-1:] for word in (node, other))
    return plain == wanted

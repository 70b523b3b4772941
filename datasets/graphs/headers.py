"""What tables of a graph do not say: whether a first row of numbers is a header, and whether a column has the ids."""

from comhe.datasets.io.cells import whole
from comhe.errors import DataError, warn

from .splits import SPLITS
from .table import ID, LABEL, SPLIT, Table


def names_the_nodes(tables: dict[str, Table]) -> bool:
    """Whether the first column of features are ids without saying so: all different, and every edge's ends in them."""
    features, edges = tables["features"], tables["edges"]
    if features.width < 2 or features.numbered or (features.names and features.names[0] in (*LABEL, *SPLIT)):
        return False
    cells = [*map(whole, features.peek(0))]
    known = set(cells)
    if len(known) < max(len(cells), 4):  # three nodes may have the features 0, 1 and 2
        return False
    source, target, _ = edges.ends()
    if source is None or target is None:
        return False
    rows = [[*map(whole, row)] for row in edges.words(source, target)]
    rows = rows[1:] if rows and not edges.names and not {*rows[0]} <= known else rows  # words above words
    return bool(rows) and {node for row in rows for node in row} <= known


def tell_ids(table: Table) -> None:
    column = f"column {table.names[0]!r}" if table.names else "first column"
    warn(f"{table.path}: its {column} is taken for the ids of the nodes; call it id")


def is_header(features: Table, tables: dict[str, Table]) -> bool:
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
    source, target, _ = edges.ends()
    rest = [] if source is None or target is None else edges.words(source, target)[edges.numbered :]
    if {"0", str(rows - 1)} <= {node for row in rest for node in row}:
        return False  # nodes are numbered from 0, and the last one needs all rows
    columns = zip(*features.words(*range(features.width))[1:], strict=True)
    if any(not any(cell.lstrip("+-").isdigit() for cell in column) for column in columns):
        return True  # a column of decimal fractions
    raise _ambiguous(features, "a node", ",".join("ab"[: features.width]))


def find_headers(tables: dict[str, Table], numbers: dict[str, int]) -> None:
    """Decide of the first rows 0, 1 ... of all tables but features whether they are headers."""
    features, labels, edges = tables["features"], tables.get("labels"), tables["edges"]
    for kind in ("labels", "split", "edges"):
        if kind in tables and not (table := tables[kind]).names and table.width in (2, 3):
            known = [node in numbers or whole(node) in numbers for node in table.peek(0)]
            table.header = max(table.header, int(len(known) > 1 and known == [False] + [True] * (len(known) - 1)))
    for kind in ("labels", "split"):
        if kind in tables and (table := tables[kind]).numbered:
            ids = [node for (node,) in table.words(0)]
            by_node = table.width == 2
            are_floats = len(ids) > 1 and all("." in node for node in ids[1:])  # as the first row is not
            if by_node:
                table.header = int(are_floats or "0" not in numbers or "0" in ids[1:])
            else:
                table.header = int(len(ids) == len(numbers) + 1)
    lists = [tables[split] for split in SPLITS if split in tables and tables[split].numbered]
    masks = [table for table in lists if table.count() == len(numbers) > 3 and {*table.peek(0)} <= {"0", "1"}]
    for table in (table for table in lists if table not in masks):  # a node is listed once, and in one of them
        table.header = int(len(lists) > 1 or "0" not in numbers or ["0"] in table.words(0)[1:])
    if edges.numbered and edges.width in (2, 3):
        rest = {(source, target) for source, target in edges.words(0, 1)[1:]}
        one_way = {(source, target) for source, target in rest if (target, source) not in rest}
        completes = one_way == {("1", "0")}  # with the first row, every edge goes both ways
        complete = bool(rest) and not one_way  # without it, they do
        default = any(table is not None and table.numbered and table.header for table in (features, labels))
        default = default and (labels is None or labels.header > 0)  # the other tables have such headers
        are_floats = bool(rest) and all("." in node for ends in rest for node in ends)  # as the first row is not
        if not {"0", "1"} <= numbers.keys() or (default and complete) or are_floats:
            edges.header = 1
        elif not completes and (default or complete):
            raise _ambiguous(edges, "an edge", "source,target" + ",weight" * (edges.width == 3))


def _ambiguous(table: Table, kind: str, names: str) -> DataError:
    row = table.delimiter.join(map(str, range(table.width)))
    fix = f"write {names} above it if it is {kind}, and in its place if it is a header"
    return DataError(f"{table.path}: its first row, {row}, may be {kind} or a header; {fix}")

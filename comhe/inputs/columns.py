"""Which columns of a table are the coordinates of a point, by the names that programs give them."""

import re
from collections.abc import Sequence

from comhe.errors import DataError

_WORD = "p|pt|pos|position|points?|coords?|coordinates?|vertex|loc|location|xyz"
_UNIT = "mm?|cm|coords?|coordinates?|pos|position"
_NAME = re.compile(
    rf"(?P<word>{_WORD})?[ _.:-]*(?P<axis>[xyz])(?P<unit>[ _.:-]*({_UNIT}))?"
    rf"|(?P<array>{_WORD})[ _.:-]*(?P<number>[012])"
)
_BRACKETS = re.compile(r"\s*[\[(][^\])]*[\])]")  # units, as in "x (m)"
INDEX = {"", "unnamed: 0", "index", "idx", "id", "row", "number", "no", "no.", "point id", "point_id", "pointid"}
_OTHER = re.compile(r"(n|v|normal)[ _.:-]*[xyz]|normals?[ _.:-]*\d?|red|green|blue|intensity|label|class")


def find_axes(names: Sequence[str], path: object) -> list[int] | None:
    """Return the positions of x, y and z among the names of a table's columns, or None if there are no such names.

    ``x``, ``y`` and ``z`` themselves come first, then such names as ``px``, ``pos_x``, ``x (m)`` and ``Points:0``.

    Raises:
        DataError: there are two sets of such names.

    Example:
        >>> find_axes(["", "Normals:0", "Points:0", "Points:1", "Points:2"], "cloud.csv")
        [2, 3, 4]
    """
    plain = [_BRACKETS.sub("", name.strip().lower()) for name in names]
    if {*"xyz"} <= {*plain}:
        return [plain.index(axis) for axis in "xyz"]
    found: dict[tuple[str | None, ...], dict[str, int]] = {}
    for position, name in enumerate(plain):
        if match := _NAME.fullmatch(name):
            kind = match["word"], match["unit"], match["array"]
            axis = match["axis"] or "xyz"[int(match["number"])]
            found.setdefault(kind, {}).setdefault(axis, position)
    triples = [[axes[axis] for axis in "xyz"] for axes in found.values() if len(axes) == 3]
    if len(triples) > 1:
        first, second = (", ".join(names[i] for i in triple)[:60] for triple in triples[:2])
        raise DataError(f"{path}: both {first} and {second} may be its points; name the right ones x, y and z")
    return triples[0] if triples else None


def choose_columns(names: Sequence[str], path: object) -> list[int]:
    """Return the columns of the points in a table with a header; without names of axes, the only three that it has.

    Raises:
        DataError: it has more than three columns, and no names of axes, or other than three.

    Example:
        >>> choose_columns(["idx", "a", "b", "c"], "cloud.csv")
        [1, 2, 3]
    """
    if (axes := find_axes(names, path)) is not None:
        return axes
    rest = [i for i, name in enumerate(names) if name.strip().lower() not in INDEX]
    numbered = [names[i] for i in rest] == [str(i) for i in range(len(rest))]  # as pandas names them
    if numbered and len(rest) >= 3:
        return rest[:3]
    words = [names[i].strip().lower() for i in rest]
    if len(rest) != 3 or words == [*"rgb"] or any(map(_OTHER.fullmatch, words)):
        raise DataError(f"{path}: its columns are {', '.join(map(repr, names))[:120]}; name three of them x, y and z")
    return rest

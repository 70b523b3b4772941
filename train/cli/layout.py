"""Tables as text of a given width, in which no cell is ever cut."""

import textwrap
from collections.abc import Sequence

GAP = "  "
NARROW = 14  # columns of words are not wrapped to fewer
LEFT = (
    "setting",
    "option",
    "default",
    "layer",
    "what it is",
    "value",
)  # headings of columns of words; figures are to the right


def lay_out(
    title: str, header: Sequence[str], cells: Sequence[Sequence[str]], width: int | None = None, note: str = ""
) -> str:
    """Return a table that fits ``width`` columns (None: as wide as it needs).

    Where it does not fit, in this order: headings are wrapped, a column with one value in all rows becomes a line
    above, columns of words are wrapped; and at last each row is a block of lines. A figure stays on one line.

    Example:
        >>> print(lay_out("Accuracy", ["model", "test %"], [["gcn", "81.25 ± 0.80"], ["gat", "82.00 ± 0.90"]]))
        Accuracy
        <BLANKLINE>
        model        test %
        ───────────────────
        gcn    81.25 ± 0.80
        gat    82.00 ± 0.90
    """
    rows = [list(line) for line in cells]
    found = [*_wrap(title, width), ""] if title else []
    body = _table(header, rows, None)
    if width is not None and _width(body) > width:
        body = _fitted(header, rows, width)
    found += body
    return "\n".join([*found, *(["", *_wrap(note, width)] if note else [])])


def _fitted(header: Sequence[str], rows: list[list[str]], width: int) -> list[str]:
    body = _table(header, rows, width)
    if _width(body) <= width:
        return body
    same = [i for i in range(len(header)) if len(rows) > 1 and len({row[i] for row in rows}) == 1 and rows[0][i]]
    rest = [i for i in range(len(header)) if i not in same]
    if same and rest:
        above = "all rows: " + ", ".join(f"{header[i]} {rows[0][i]}" for i in same)
        body = _table([header[i] for i in rest], [[row[i] for i in rest] for row in rows], width)
        if _width(body) <= width:
            return [*_wrap(above, width), "", *body]
    return _blocks(header, rows, width)


def _table(header: Sequence[str], rows: list[list[str]], width: int | None) -> list[str]:
    """Lines of columns; with a width, headings and cells of words are wrapped to come close to it."""
    left = [_is_words(name, [row[i] for row in rows]) for i, name in enumerate(header)]
    sizes = [max(map(len, (name, *(row[i] for row in rows)))) for i, name in enumerate(header)]
    if width is not None:
        columns = [[row[i] for row in rows] for i in range(len(header))]
        sizes = [
            max(_longest_word(name), *(map(len, column) if column else [0]))
            for name, column in zip(header, columns, strict=True)
        ]
        spare = width - len(GAP) * (len(sizes) - 1)
        prose = [i for i, column in enumerate(columns) if left[i] and any(" " in cell for cell in column)]
        least = {i: max(NARROW, *map(_longest_word, columns[i])) for i in prose}
        while sum(sizes) > spare and (wide := [i for i in prose if sizes[i] > least[i]]):
            sizes[max(wide, key=sizes.__getitem__)] -= 1
    lines = [
        textwrap.wrap(name, size, break_long_words=False) or [""] for name, size in zip(header, sizes, strict=True)
    ]
    found = _aligned(lines, sizes, left)
    found.append("─" * (sum(sizes) + len(GAP) * (len(sizes) - 1)))
    for row in rows:
        texts = [_wrap(cell, size) or [""] for cell, size in zip(row, sizes, strict=True)]
        found += _aligned(texts, sizes, left)
    return found


def _aligned(texts: Sequence[Sequence[str]], sizes: Sequence[int], left: Sequence[bool]) -> list[str]:
    """Cells of one row, each of some lines, next to each other."""
    height = max(map(len, texts))
    found = []
    for line in range(height):
        parts = [text[line] if line < len(text) else "" for text in texts]
        aligned = (
            p.ljust(size) if to_left else p.rjust(size) for p, size, to_left in zip(parts, sizes, left, strict=True)
        )
        found.append(GAP.join(aligned).rstrip())
    return found


def _blocks(header: Sequence[str], rows: list[list[str]], width: int) -> list[str]:
    """Each row as its names in a line, and below it its figures, each with its heading."""
    words = [_is_words(name, [row[i] for row in rows]) for i, name in enumerate(header)]
    found: list[str] = []
    for row in rows:
        names = GAP.join(cell for cell, is_words in zip(row, words, strict=True) if is_words and cell)
        if found:
            found.append("")
        found += _wrap(names, width)
        line = ""
        for heading, cell, is_words in zip(header, row, words, strict=True):
            if is_words or not cell:
                continue
            pair = f"{heading}: {cell}"
            if line and len(line) + len(GAP) + len(pair) > width:
                found.append(line)
                line = ""
            line = f"{line}{GAP}{pair}" if line else f"  {pair}"
            if len(line) > width:
                found += [f"  {part}" for part in (*_wrap(f"{heading}:", width - 2), *_wrap(cell, width - 2))]
                line = ""
        found += [line] if line else []
    return found


def _is_words(heading: str, column: Sequence[str]) -> bool:
    """Whether a column is of names and not of figures."""
    return heading in LEFT or not any(cell[:1].isdigit() or cell[:1] in "+-<" for cell in column if cell)


def _longest_word(text: str) -> int:
    return max(map(len, text.split()), default=0)


def _width(lines: Sequence[str]) -> int:
    return max(map(len, lines), default=0)


def _wrap(text: str, width: int | None) -> list[str]:
    """Text in lines, broken at spaces; a word that is longer than a line is folded, and loses nothing."""
    if width is None:
        return [text]
    return textwrap.wrap(text, max(8, width), break_long_words=True, break_on_hyphens=False) or [""]

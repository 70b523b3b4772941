"""Docstrings as commands and pages show them."""

import inspect
import re


def plain(text: str) -> str:
    r"""Return a docstring without the marks of its markup, up to its example.

    Example:
        >>> plain("The ``mean`` of :math:`x_i`.\n\nArgs:\n    x: numbers\n\nExample:\n    >>> 1")
        'The mean of x_i.\n\n  Args:\n  x: numbers'
    """
    text = re.split(r"\n\s*Example:", text)[0]
    text = re.sub(r":\w+:`[~.]?([^`]*)`", r"\1", text).replace("``", "")
    parts = []
    for part in text.split("\n\n"):
        lines = part.strip().splitlines()
        if lines and lines[0].startswith(".. math::"):
            parts.append("\n".join(f"  {line.removeprefix('.. math::').strip()}" for line in lines))
        elif lines and lines[0].endswith(":") and len(lines[0].split()) == 1:
            items = re.sub(r"\n {8,}", " ", "\n".join(lines)).splitlines()  # a line that is indented more goes on
            parts.append("\n".join(f"  {line.strip()}" for line in items))
        else:
            parts.append(part)
    return "\n\n".join(part for part in parts if part.strip()).rstrip()


def first_sentence(text: str | None) -> str:
    """Return the first sentence of a docstring, without its markup, its full stop and the word Return.

    Example:
        >>> first_sentence("Return ``Kipf's`` network. It has\\ntwo layers.")
        "Kipf's network"
    """
    first = " ".join(plain(text or "").strip().split("\n\n")[0].split())
    first = re.split(r"(?<=\.)(?<!e\.g\.)(?<!i\.e\.)(?<!al\.)(?<!vs\.)\s+(?=[A-Z])", first)[0]
    return first.rstrip(".:;,").replace("`", "").removeprefix("Return ")


def arguments(text: str | None) -> dict[str, str]:
    """Return what a docstring says under ``Args:`` of each argument, without its markup.

    Example:
        >>> text = "A sum.\\n\\nArgs:\\n    a, b: numbers,\\n        of any kind\\n    c: another\\n\\nShape: [N]"
        >>> arguments(text)
        {'a': 'numbers, of any kind', 'b': 'numbers, of any kind', 'c': 'another'}
    """
    block = re.search(r"^Args:\n((?: +.*\n?)+)", inspect.cleandoc(text or ""), re.MULTILINE)
    entries = re.split(r"^ {4}(?=[\w*])", block[1], flags=re.MULTILINE)[1:] if block else []
    found: dict[str, str] = {}
    for entry in entries:
        names, _, about = re.sub(r" \([^)]*\):", ":", " ".join(entry.split()), count=1).partition(": ")
        found |= dict.fromkeys(names.split(", "), plain(about))
    return found

"""Globs on the names of layers, and names of modules for all that is below them."""

from collections.abc import Iterable
from fnmatch import fnmatchcase


def matches(glob: str, name: str) -> bool:
    """Whether a glob matches the name of a layer, or is itself the name of a module that the layer is in.

    Example:
        >>> [matches(glob, "backbone.0.conv") for glob in ("backbone", "*.conv", "backbone.?", "back")]
        [True, True, False, False]
    """
    return fnmatchcase(name, glob) or name.startswith(f"{glob}.")


def matches_any(globs: Iterable[str], name: str) -> bool:
    """Whether any of the globs does.

    Example:
        >>> matches_any(["head", "*.bias"], "head.0")
        True
    """
    return any(matches(glob, name) for glob in globs)

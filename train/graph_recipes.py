"""Named recipes for citation graphs."""

from __future__ import annotations

from collections.abc import Callable

from .graphs import GraphRecipe

RECIPES: dict[str, Callable[[str, str, str], GraphRecipe]] = {}


def kipf(model: str, data: str, regularizer: str) -> GraphRecipe:
    """Kipf & Welling's published settings."""
    return GraphRecipe(recipe="kipf", model=model, data=data, regularizer=regularizer)


RECIPES["kipf"] = kipf

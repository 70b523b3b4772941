"""Settings that were chosen on validation, by recipe and cell; ``python -m comhe.train.compare.search`` writes them."""

import json
import re
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any, TypeVar

from comhe.errors import UsageError

from .recipe import Recipe, find_domain, get_recipe

CHOICES = Path(__file__).with_name("choices.json")

R = TypeVar("R", bound=Recipe)
Function = Callable[[str, str, str], R]


def chosen(function: Function[R]) -> Function[R]:
    """Decorator of a function that returns a recipe: what was chosen for the cell replaces its settings.

    ``__wrapped__`` is the function itself, so the recipe before anything is chosen.
    """

    @wraps(function)
    def recipe(model: str, data: str, regularizer: str) -> R:
        base = function(model, data, regularizer)
        found = _choices().get(function.__name__, {})
        if (settings := found.get(base.name)) is None:
            settings = found.get(base.replace(data=re.sub(r"-random\d*$", "", data)).name)  # another split of the data
        return base.replace(**settings) if settings else base

    return recipe


def base_recipe(name: str, model: str, data: str, regularizer: str) -> Recipe:
    """Return a recipe before anything is chosen."""
    recipe = get_recipe(name, model, data, regularizer)
    function: Any = find_domain(recipe.domain).recipes[name]
    if not hasattr(function, "__wrapped__"):
        raise UsageError(f"nothing can be chosen for {name}, whose settings are fixed")
    return function.__wrapped__(model, data, regularizer).replace(recipe=name)


@cache
def _choices() -> dict[str, dict[str, dict[str, Any]]]:
    return json.loads(CHOICES.read_text())

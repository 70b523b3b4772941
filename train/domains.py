"""Which recipe and which task belong to a domain, and the recipes that have names."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from comhe.zoo import model_domain

from .recipe import Recipe

if TYPE_CHECKING:
    from .loop import Task


def recipe_class(domain: str) -> type[Recipe]:
    """The recipe of a domain; imported only when asked for, since domains bring libraries along."""
    if domain == "graphs":
        from .graphs import GraphRecipe

        return GraphRecipe
    raise ValueError(f"there is no training for {domain} yet; the domains that can be trained are graphs")


def make_task(recipe: Recipe, root: str | None = None, device: str = "cpu") -> Task:
    """The task of a recipe's domain."""
    from .graphs import GraphTask

    return GraphTask(recipe, root, device)


def named_recipe(name: str, model: str, data: str, regularizer: str, **changes: Any) -> Recipe:
    """The recipe ``name`` for a model, a data set and a regularizer, with some settings changed.

    Raises:
        ValueError: no such recipe in the model's domain (the nearest are listed), or a setting out of range.
    """
    domain = model_domain(model)
    recipe_class(domain)
    from .graph_recipes import RECIPES, graph_recipe

    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=3, cutoff=0.4) or RECIPES
        raise ValueError(f"unknown recipe {name!r} for {domain}; did you mean {', '.join(near)}?")
    return graph_recipe(name, model, data, regularizer).replace(**changes)

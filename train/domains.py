"""Which recipe and which task belong to a domain, and the recipes that have names."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import TYPE_CHECKING, Any

from comhe.zoo import model_domain

from .recipe import Recipe

if TYPE_CHECKING:
    from .task import Task

# Where a domain's things are. Modules are imported only when asked for, since each brings libraries along.
_DOMAINS = {
    "images": {
        "Recipe": "images.ImageRecipe",
        "Task": "images.ImageTask",
        "names": "image_recipes.RECIPES",
        "named": "image_recipes.image_recipe",
    },
    "points": {
        "Recipe": "points.PointRecipe",
        "Task": "points.PointTask",
        "names": "point_recipes.RECIPES",
        "named": "point_recipes.point_recipe",
    },
    "graphs": {
        "Recipe": "graphs.GraphRecipe",
        "Task": "graphs.GraphTask",
        "names": "graph_recipes.RECIPES",
        "named": "graph_recipes.graph_recipe",
    },
}


def recipe_class(domain: str) -> type[Recipe]:
    """The recipe of a domain; ValueError where there is no training for it."""
    return _find(domain, "Recipe")


def make_task(recipe: Recipe, root: str | None = None, device: str = "cpu") -> Task:
    """The task of a recipe's domain."""
    return _find(model_domain(recipe.model), "Task")(recipe, root, device)


def recipe_names(domain: str) -> tuple[str, ...]:
    """The names of a domain's recipes; the first is the usual one."""
    return tuple(_find(domain, "names"))


def all_recipe_names() -> list[str]:
    """Every domain's recipes."""
    return [name for domain in _DOMAINS for name in recipe_names(domain)]


def named_recipe(name: str | None, model: str, data: str, regularizer: str, **changes: Any) -> Recipe:
    """The recipe ``name`` (None: the usual one) for a model, a data set and a regularizer, with some settings changed.

    Raises:
        ValueError: no such recipe in the model's domain (the nearest are listed), or a setting out of range.
    """
    domain = model_domain(model)
    names = recipe_names(domain)
    name = names[0] if name is None else name
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names
        raise ValueError(f"unknown recipe {name!r} for {domain}; did you mean {', '.join(near)}?")
    return _find(domain, "named")(name, model, data, regularizer).replace(**changes)


def _find(domain: str, what: str) -> Any:
    if domain not in _DOMAINS:
        raise ValueError(f"there is no training for {domain} models; there is for {', '.join(_DOMAINS)}")
    module, name = _DOMAINS[domain][what].split(".")
    return getattr(import_module(f".{module}", __package__), name)

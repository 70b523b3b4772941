"""What the names on the page mean, and what the paper has for them."""

import inspect
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from comhe.errors import ComheError
from comhe.regularizers.registry import about_regularizer
from comhe.train.compare.reproduce import PUBLISHED, cells
from comhe.train.compare.tables import Column, Row, signed
from comhe.train.docstrings import first_sentence
from comhe.train.recipe import Recipe, find_domain, get_recipe
from comhe.zoo import model_domain

SETTINGS = {
    "epochs": "{} epochs",
    "batch_size": "batches of {}",
    "lr": "learning rate {}",
    "schedule": "schedule {}",
    "weight_decay": "weight decay {}",
}


class Panel(NamedTuple):
    """What is compared with one another: the methods of one recipe, model and data set, as rows for the last epoch."""

    recipe: str
    model: str
    data: str
    rows: Sequence[Row]

    @property
    def title(self) -> str:
        return f"{self.recipe} {self.model} {self.data}"

    @property
    def name(self) -> str:
        return f"{self.model} on {self.data}, recipe {self.recipe}"


def enumerate_names(names: Iterable[str], last: str = "and") -> str:
    """Join names by commas and a last word."""
    *others, end = names
    return f"{', '.join(others)} {last} {end}" if others else end


def recipe_meanings(panels: Sequence[Panel]) -> dict[str, str]:
    """Return what each recipe is, by its name and the networks' domain: its docstring, and the usual settings."""
    found: dict[str, tuple[str, list[Recipe]]] = {}
    for panel in panels:
        try:
            domain = model_domain(panel.model)
            about = inspect.getdoc(find_domain(domain).recipes[panel.recipe]) or ""
            recipe = get_recipe(panel.recipe, panel.model, panel.data, "none")
        except (ComheError, KeyError):  # of a module that is not imported here
            continue
        found.setdefault(f"{panel.recipe} ({domain})", (_sentence(about), []))[1].append(recipe)
    return {name: f"{text} {_settings(recipes)}".strip() for name, (text, recipes) in found.items()}


def regularizer_meanings(names: Iterable[str]) -> dict[str, str]:
    """Return the first sentence of each regularizer's documentation."""
    found = {"none": "The network as it is, without a regularizer."}
    for name in names:
        try:
            text = _sentence(about_regularizer(name))
        except ComheError:  # of a module that is not imported here
            continue
        if text and "\\" not in text:
            found.setdefault(name, text)
    return found


def published(row: Row) -> float | None:
    """Return the paper's accuracy for a row's network, data set and regularizer, in percent, if it has one."""
    return _PUBLISHED.get((row.model, row.data, row.regularizer))


def published_difference(row: Row) -> float | None:
    """Return the difference of the paper's accuracies with and without the regularizer."""
    figure, base = published(row), _PUBLISHED.get((row.model, row.data, "none"))
    return None if figure is None or base is None or row.regularizer == "none" else figure - base


def _paper_text(row: Row) -> str:
    figure, difference = published(row), published_difference(row)
    return "" if figure is None else f"{figure:.2f}" + ("" if difference is None else f" ({signed(difference)})")


PAPER = Column("paper %", "published", _paper_text)
_PUBLISHED = {
    cell[:3]: cell.published if PUBLISHED[name]["figure"] == "accuracy" else 100 - cell.published
    for name in PUBLISHED
    for cell in cells(name)
    if cell.published is not None
}


def _sentence(text: str) -> str:
    """The first sentence of a docstring, as one of a page."""
    first = first_sentence(text)
    return f"{first[:1].upper()}{first[1:]}." if first else ""


def _settings(recipes: Sequence[Recipe]) -> str:
    """The usual settings of some recipes, with all values where they differ."""
    parts = []
    for name, text in SETTINGS.items():
        values = dict.fromkeys(
            f"{getattr(r, name):g}" if isinstance(getattr(r, name), float) else str(getattr(r, name))
            for r in recipes
            if hasattr(r, name)
        )
        if values:
            parts.append(text.format(enumerate_names(values, "or")))
    return f"{enumerate_names(parts)}.".capitalize() if parts else ""

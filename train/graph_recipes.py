"""Named recipes for citation graphs.

``kipf`` keeps the published settings of the network and its training; ``tuned`` starts from them. What was chosen on
validation accuracy, cell by cell, is in ``choices.json``, written by :mod:`comhe.train.compare.search`.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from .graphs import GraphRecipe

CHOICES = Path(__file__).with_name("choices.json")
RECIPES = ("kipf", "tuned")


def base_recipe(name: str, model: str, data: str, regularizer: str) -> GraphRecipe:
    """Kipf & Welling's settings and the regularizer's defaults, before anything is chosen."""
    # Drawn in the span of the neurons the projected energies have the same distribution, at a fifth of the time.
    options = {"span": True} if regularizer == "rp-comhe" else {}
    return GraphRecipe(recipe=name, model=model, data=data, regularizer=regularizer, regularizer_options=options)


def graph_recipe(name: str, model: str, data: str, regularizer: str) -> GraphRecipe:
    """The base recipe with what was chosen for this cell, if anything was."""
    base = base_recipe(name, model, data, regularizer)
    return base.replace(**_choices().get(name, {}).get(base.name, {}))


@lru_cache(maxsize=1)
def _choices() -> dict[str, dict[str, dict[str, Any]]]:
    return json.loads(CHOICES.read_text())

"""Named recipes for citation graphs.

``kipf`` keeps the published settings of the network and its training, ``kipf-400`` all of them but the epochs, and
``tuned`` starts from them. What was chosen on validation accuracy, cell by cell, is in ``choices.json``, written by
:mod:`comhe.train.search`; ``kipf-400`` has the choices of ``kipf``.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from .graphs import GraphRecipe

CHOICES = Path(__file__).with_name("choices.json")
RECIPES = ("kipf", "kipf-400", "tuned")


def base_recipe(name: str, model: str, data: str, regularizer: str) -> GraphRecipe:
    """Kipf & Welling's settings and the regularizer's defaults, before anything is chosen."""
    # Drawn in the span of the neurons the projected energies have the same distribution, at a fifth of the time.
    options = {"span": True} if regularizer == "rp-comhe" else {}
    recipe = GraphRecipe(recipe=name, model=model, data=data, regularizer=regularizer, regularizer_options=options)
    return recipe.replace(epochs=400) if name == "kipf-400" else recipe


def graph_recipe(name: str, model: str, data: str, regularizer: str) -> GraphRecipe:
    """The base recipe with what was chosen for this cell, if anything was."""
    base = base_recipe(name, model, data, regularizer)
    chosen = _choices().get("kipf" if name == "kipf-400" else name, {})
    return base.replace(**chosen.get(base.name, {}))


@lru_cache(maxsize=1)
def _choices() -> dict[str, dict[str, dict[str, Any]]]:
    return json.loads(CHOICES.read_text())

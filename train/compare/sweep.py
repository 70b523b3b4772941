"""The variants of a recipe that several values of its settings make."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from comhe.errors import UsageError
from comhe.regularizers import regularizer_options
from comhe.train.recipe import Recipe, did_you_mean
from comhe.train.settings import OTHER_FLAGS


def variants(base: Recipe, settings: Mapping[str, Any]) -> list[Recipe]:
    """Return the recipe with every combination of the settings that apply to it.

    ``weight``, ``output_weight`` and a regularizer's options do not apply to ``none``, nor an option to a regularizer
    that does not have it.

    Args:
        base: Recipe to be changed.
        settings: Values by name; a list or a tuple stands for several values.

    Example:
        >>> from comhe.train import GraphRecipe
        >>> base = GraphRecipe(regularizer="hs-mhe")
        >>> [recipe.label for recipe in variants(base, {"weight": [0.1, 3.0], "s": 1, "dim": [10, 20]})]
        ['gcn.cora-hs-mhe+s=1,weight=0.1', 'gcn.cora-hs-mhe+s=1,weight=3.0']
        >>> [recipe.label for recipe in variants(base.replace(regularizer="none"), {"weight": [0.1, 3.0]})]
        ['gcn.cora-none']
    """
    fields = {f.name for f in dataclasses.fields(base)}
    options = set() if base.regularizer == "none" else set(regularizer_options(base.regularizer)) - fields
    applicable = fields | options
    if base.regularizer == "none":
        applicable -= {"weight", "output_weight"}
    applied = {
        name: list(values) if isinstance(values, list | tuple) else [values]
        for name, values in settings.items()
        if name in applicable
    }
    found = []
    for values in itertools.product(*applied.values()):
        changes = dict(zip(applied, values, strict=True))
        chosen = {name: changes.pop(name) for name in list(changes) if name in options}
        found.append(base.replace(**changes, regularizer_options={**base.regularizer_options, **chosen}))
    return found


def check_settings(settings: Mapping[str, Any], bases: Sequence[Recipe]) -> None:
    """Check that each setting applies to one of the recipes at least.

    Raises:
        UsageError: If a setting is neither a field of a recipe nor an option of one of the regularizers.
    """
    known: dict[str, None] = {}
    for base in bases:
        known |= dict.fromkeys(f.name for f in dataclasses.fields(base) if f.name not in OTHER_FLAGS)
        known |= dict.fromkeys(regularizer_options(base.regularizer) if base.regularizer != "none" else ())
    for name in settings:
        if name not in known:
            raise UsageError(f"no recipe or regularizer here has a setting {name!r}; {did_you_mean(name, known)}")

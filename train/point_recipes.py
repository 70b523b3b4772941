"""Named recipes for point clouds."""

from __future__ import annotations

from .points import PointRecipe
from .recipe import Option

# Qi et al.: Adam at 0.001, times 0.7 and batch norm's momentum halved after every 200,000 samples, which is 0.0903 of
# 250 epochs of the 8,856 clouds that are left when a tenth validates.
PAPER = PointRecipe(
    recipe="paper",
    epochs=250,
    optimizer="adam",
    schedule="decay:0.7,0.0903",
    weight_decay=0.0,
    augmentation="pointnet",
    norm_decay=0.0903,
)
# Qian et al., PointNeXt.
MODERN = PointRecipe(
    recipe="modern", epochs=250, schedule="cosine", warmup=0.02, weight_decay=0.05, label_smoothing=0.2
)
# For two CPU cores.
SHORT = MODERN.replace(recipe="short", epochs=30, points=512, energies=1)
RECIPES = {recipe.recipe: recipe for recipe in (MODERN, PAPER, SHORT)}


def point_recipe(name: str, model: str, data: str, regularizer: str) -> PointRecipe:
    """A named recipe for one cell."""
    options: dict[str, Option] = {"span": True} if regularizer == "rp-comhe" else {}
    return RECIPES[name].replace(model=model, data=data, regularizer=regularizer, regularizer_options=options)

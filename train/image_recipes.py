"""Named recipes for images."""

from __future__ import annotations

from .images import ImageRecipe

# The released CoMHE training: 75,000 steps of 128 with the rate divided by ten after 30,000, 50,000 and 65,000, here
# in epochs of 351 steps, since 5,000 of the 50,000 training images validate.
PAPER = ImageRecipe(
    recipe="paper",
    epochs=214,
    lr=0.1,
    schedule="step:0.4,0.6667,0.8667",
    nesterov=False,
    decay="all",
    loss="released",
    label_smoothing=0.01,
    pad_mode="symmetric",
    normalization="centered",
    energies=1,
)
MODERN = ImageRecipe(recipe="modern", epochs=200, schedule="cosine", warmup=0.025, label_smoothing=0.1, clip=1.0)
# What two CPU cores train in a quarter of an hour.
SHORT = ImageRecipe(recipe="short", epochs=8, lr=0.2, schedule="one-cycle", warmup=0.2, energies=1)
RECIPES = {recipe.recipe: recipe for recipe in (MODERN, PAPER, SHORT)}


def image_recipe(name: str, model: str, data: str, regularizer: str) -> ImageRecipe:
    """A named recipe for one cell."""
    options = {"span": True} if regularizer == "rp-comhe" and name != "paper" else {}
    return RECIPES[name].replace(model=model, data=data, regularizer=regularizer, regularizer_options=options)

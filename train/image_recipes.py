"""Named recipes for images."""

from __future__ import annotations

from comhe.regularizers import regularizer_options

from .images import ImageRecipe
from .recipe import Option

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
# For two CPU cores: a ResNet-20 on CIFAR-100 takes one of them 20 minutes.
SHORT = ImageRecipe(recipe="short", epochs=6, lr=0.2, schedule="one-cycle", warmup=0.2, energies=1)
RECIPES = {recipe.recipe: recipe for recipe in (MODERN, PAPER, SHORT)}


def image_recipe(name: str, model: str, data: str, regularizer: str) -> ImageRecipe:
    """A named recipe for one cell."""
    options: dict[str, Option] = {}
    if name == "paper" and "eps" in regularizer_options(regularizer):
        options["eps"] = 1e-4  # inside the norms, as in the released code
    elif regularizer == "rp-comhe":
        options["span"] = True
    return RECIPES[name].replace(model=model, data=data, regularizer=regularizer, regularizer_options=options)

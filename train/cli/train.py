"""``comhe train``."""

from __future__ import annotations

from dataclasses import dataclass, make_dataclass
from typing import Annotated

from tyro.conf import arg

from comhe.train.runs.interruption import torchrun_rank

from .console import console, epochs
from .flags import CELL, Place, given, parse, recipe_flags


@dataclass(frozen=True)
class Spread:
    """How several processes that torchrun has started make one run."""

    shard_penalty: Annotated[
        bool, arg(help="under torchrun: each process computes the penalties of some of the layers")
    ] = False


def train(domain: str, words: list[str]) -> None:
    """Train one model; a run that was cut is taken up again, one that is done is left alone."""
    from comhe.train.engine.distributed import join_ranks
    from comhe.train.recipe import get_recipe, recipe_class
    from comhe.train.runs.launch import train_one
    from comhe.train.runs.run import Run
    from comhe.zoo import model_domain

    kind = recipe_class(domain)
    wanted = recipe_flags(kind)
    parts = [("settings", wanted, wanted()), ("place", Place, Place()), ("spread", Spread, Spread())]
    both = make_dataclass("Train", parts)
    flags = parse(both, words, f"comhe train {domain}", train.__doc__)
    settings = given(flags.settings)
    default = kind()
    name = settings.pop("recipe", None)
    cell = {key: settings.pop(key, getattr(default, key)) for key in CELL}
    if (other := model_domain(cell["model"])) != domain:
        raise ValueError(f"{cell['model']} is a model for {other}; train it with: comhe train {other}")
    recipe = get_recipe(name, **cell, **settings)
    spread = flags.spread
    with (
        join_ranks(flags.place.device, spread.shard_penalty) as (context, device),
        epochs(f"{recipe.name} seed {recipe.seed}", shown=torchrun_rank()[0] == 0) as progress,
    ):
        folder = train_one(recipe, flags.place.runs, flags.place.data_root, device, progress, context)
    if torchrun_rank()[0]:
        return
    result = Run(folder).result()
    for which, title in (("last", "last epoch"), ("best", "validation-selected")):
        figures = result[which]
        console.print(
            f"{title} ({figures['epoch'] + 1}): validation {100 * figures['val_accuracy']:.2f} %, "
            f"test {100 * figures['test_accuracy']:.2f} %"
        )
    console.print(f"{folder}  ({result['seconds']:.1f} s)")

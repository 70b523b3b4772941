"""``comhe data`` and ``comhe list``: what there is."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from .console import console
from .flags import Place, parse


@dataclass(frozen=True)
class Data:
    """Fetch a data set where it is not on disk, verify it, and describe it."""

    name: Annotated[Positional[str], arg(help="a name of `comhe list datasets`")]
    domain: Annotated[Literal["images", "points", "graphs"] | None, arg(help="points for a folder of shapes")] = None
    place: Place = field(default_factory=Place)


def data(words: list[str]) -> None:
    """Fetch, verify and describe a data set."""
    from comhe.datasets import describe, load_data

    flags = parse(Data, words, "comhe data", Data.__doc__)
    for key, value in describe(load_data(flags.name, flags.place.data_root, flags.domain)).items():
        console.print(f"{key:15} {value}")


@dataclass(frozen=True)
class List:
    """Names of what there is."""

    what: Positional[Literal["models", "datasets", "regularizers", "recipes", "weights"]]
    pattern: Positional[str] = "*"


def list_names(words: list[str]) -> None:
    """List models, datasets, regularizers, recipes or pretrained weights."""
    flags = parse(List, words, "comhe list", List.__doc__)
    if flags.what == "models":
        from comhe.zoo import list_models as names
    elif flags.what == "datasets":
        from comhe.datasets import list_data as names
    elif flags.what == "regularizers":
        from comhe.regularizers import list_regularizers as names
    elif flags.what == "recipes":
        from comhe.train.recipe import list_recipes as names
    else:
        from comhe.zoo import list_weights

        print(*list_weights(flags.pattern), sep="\n")  # also those of a model that matches
        return
    for name in names():
        if fnmatchcase(name, flags.pattern):
            print(name)

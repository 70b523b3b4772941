from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from comhe.datasets import list_data
from comhe.regularizers import list_regularizers
from comhe.train.recipe import list_recipes
from comhe.zoo import list_models, list_weights

from .options import Command

LISTS: Any = {"models": list_models, "datasets": list_data, "regularizers": list_regularizers, "recipes": list_recipes}


@dataclass(frozen=True, kw_only=True)
class List(Command):
    """List the names of models, data sets, regularizers, recipes or pretrained weights."""

    what: Positional[Literal["models", "datasets", "regularizers", "recipes", "weights"]]
    pattern: Annotated[Positional[str], arg(help="such as 'resnet*'")] = "*"

    def run(self) -> None:
        if self.what == "weights":
            names = list_weights(self.pattern)  # the pattern may also be the name of a model
        else:
            names = [name for name in LISTS[self.what]() if fnmatchcase(name, self.pattern)]
        for name in names:
            print(name)

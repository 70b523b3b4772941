"""Train, evaluate and compare: recipes, the loop, run folders, the command line."""

from typing import TYPE_CHECKING, Any

from .compare.compare import Comparison, compare  # eager, since the subpackage has the same name
from .plugins import load_plugins
from .recipe import Recipe, domains, get_recipe, list_recipes, provide_domains, recipe_class, register_recipe
from .runs.launch import fit
from .runs.run import Run
from .task import Task, check_recipe, make_task

if TYPE_CHECKING:
    from .graphs import GraphRecipe
    from .images import ImageRecipe
    from .points import PointRecipe

__all__ = [
    "Comparison",
    "GraphRecipe",
    "ImageRecipe",
    "PointRecipe",
    "Recipe",
    "Run",
    "Task",
    "check_recipe",
    "compare",
    "fit",
    "get_recipe",
    "list_recipes",
    "load_plugins",
    "make_task",
    "register_recipe",
]


@provide_domains
def _register_built_in() -> None:
    from . import graphs, images, points

    for module in (images, points, graphs):
        module.register()


def __getattr__(name: str) -> Any:
    # The domains' modules are also scripts (python -m comhe.train.images), which nothing may have imported before.
    if name in __all__:
        for kind in map(recipe_class, domains()):
            if kind.__name__ == name:
                return kind
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

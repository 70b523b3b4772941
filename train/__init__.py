"""Train, evaluate and compare: recipes, the loop, run folders, the command line."""

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from comhe.errors import needs

# Where cores are shared with other processes, threads that spin while they wait for each other slow each other down.
# OpenMP reads this when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

with needs("train", __name__, "filelock", "jinja2", "numpy", "rich", "safetensors", "scipy", "tyro"):
    from .plugins import load_plugins, providers

if TYPE_CHECKING:
    from .compare.compare import Comparison, compare
    from .graphs import GraphRecipe
    from .images import ImageRecipe
    from .points import PointRecipe
    from .predict import Prediction, open_weights, predict_files, predict_nodes
    from .recipe import Recipe, get_recipe, list_recipes, register_recipe
    from .runs.cluster import Cluster
    from .runs.launch import fit
    from .runs.run import Run
    from .task import Task, check_recipe, make_task

__all__ = [
    "Cluster",
    "Comparison",
    "GraphRecipe",
    "ImageRecipe",
    "PointRecipe",
    "Prediction",
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
    "open_weights",
    "predict_files",
    "predict_nodes",
    "register_recipe",
]


def _register_built_in() -> None:
    from . import graphs, images, points
    from .recipe import register_domain

    of_images = images.modern, images.paper, images.short, images.one_cycle, images.airbench, images.few_labels
    of_points = points.modern, points.paper, points.short, points.one_cycle, points.few_labels
    of_graphs = graphs.kipf, graphs.tuned, graphs.few_labels, graphs.noisy_labels, graphs.deep, graphs.published
    register_domain(images.ImageRecipe, images.ImageTask, *of_images)
    register_domain(points.PointRecipe, points.PointTask, *of_points)
    register_domain(graphs.GraphRecipe, graphs.GraphTask, *of_graphs)


providers.append(_register_built_in)

# What is imported when it is first used: with torch it takes seconds, which the help of a command should not cost.
# The domains' modules are also scripts (python -m comhe.train.images), which nothing may have imported before.
_MODULES = {
    "compare.compare": ("Comparison", "compare"),
    "graphs": ("GraphRecipe",),
    "images": ("ImageRecipe",),
    "points": ("PointRecipe",),
    "predict": ("Prediction", "open_weights", "predict_files", "predict_nodes"),
    "recipe": ("Recipe", "get_recipe", "list_recipes", "register_recipe"),
    "runs.cluster": ("Cluster",),
    "runs.launch": ("fit",),
    "runs.run": ("Run",),
    "task": ("Task", "check_recipe", "make_task"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Train(ModuleType):
    """This package: its ``compare`` is the function, and not the subpackage of that name once that is imported."""

    @property
    def compare(self) -> Any:
        return __getattr__("compare")

    @compare.setter
    def compare(self, subpackage: ModuleType) -> None:
        """Ignore what the import system sets."""


sys.modules[__name__].__class__ = _Train

"""Train, evaluate and compare: recipes, the loop, run folders, the command line."""

import os
from typing import TYPE_CHECKING, Any

# Where cores are shared with other processes, threads that spin while they wait for each other slow each other down.
# OpenMP reads this when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from .compare.compare import Comparison, compare  # eager, since the subpackage has the same name
from .plugins import load_plugins
from .predict import Prediction, open_weights, predict_files, predict_nodes
from .recipe import Recipe, domains, find_domain, get_recipe, list_recipes, providers, register_domain, register_recipe
from .runs.cluster import Cluster
from .runs.launch import fit
from .runs.run import Run
from .task import Task, check_recipe, make_task

if TYPE_CHECKING:
    from .graphs import GraphRecipe
    from .images import ImageRecipe
    from .points import PointRecipe

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

    named = images.modern, images.paper, images.short, images.one_cycle, images.airbench
    register_domain(images.ImageRecipe, images.ImageTask, *named)
    register_domain(points.PointRecipe, points.PointTask, points.modern, points.paper, points.short)
    register_domain(graphs.GraphRecipe, graphs.GraphTask, graphs.kipf, graphs.tuned, graphs.published)


providers.append(_register_built_in)


def __getattr__(name: str) -> Any:
    # The domains' modules are also scripts (python -m comhe.train.images), which nothing may have imported before.
    if name in __all__:
        for domain in domains():
            if (kind := find_domain(domain).recipe).__name__ == name:
                return kind
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""What differs between domains."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from comhe.datasets import list_data
from comhe.datasets.sampling import Batches
from comhe.errors import UsageError
from comhe.regularizers import Regularizer, create_regularizer, list_regularizers
from comhe.zoo import create_model, model_domain
from comhe.zoo.preprocessing import Transform

from .engine.ranks import here
from .recipe import Recipe, did_you_mean, find_domain


class Task(Protocol):
    """A recipe's model, data, loss and metrics. A batch is a tuple that ends with the labels."""

    recipe: Recipe
    device: torch.device
    generators: tuple[torch.Generator, ...]  # that batches are made with, beside the default ones
    steps: int  # in an epoch
    options: dict[str, Any]  # what the model is built with

    def transforms(self) -> Transform:
        """What is done to raw inputs before the model sees them, beside augmentation."""
        ...

    def model(self) -> nn.Module: ...
    def regularizer(self, model: nn.Module) -> Regularizer: ...
    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer: ...
    def batches(self, epoch: int, first: int = 0) -> Batches:
        """The epoch's batches from number ``first`` on."""
        ...

    def parts(self, batch: tuple) -> Iterable[tuple[float, tuple]]:
        """The batch in the parts that go through the network one after the other, each with its share."""
        ...

    def loss(self, model: nn.Module, batch: tuple) -> tuple[Tensor, Tensor]:
        """The loss, a mean over the batch, and the logits."""
        ...

    def example(self) -> tuple:
        """What the model takes for one sample, or for a whole graph."""
        ...

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """At least ``accuracy`` (a fraction of the split's samples) and ``loss``."""
        ...


def make_task(recipe: Recipe, root: str | None = None, device: str = "cpu") -> Task:
    """Return the task of a recipe's domain, with its data loaded.

    Args:
        root: folder of the data sets; by default ``$COMHE_DATA``, else the user's cache folder.
        device: of model and data, such as ``cuda:1``.

    Raises:
        UsageError: a name or an option that does not exist, or does not fit the domain.
        DataError: the data set's files are missing or damaged.
    """
    return find_domain(recipe.domain).task(recipe, root, device)


def check_recipe(recipe: Recipe, device: str = "cpu") -> None:
    """Check what can be checked without the data: names, options and device.

    Raises:
        UsageError: the model, data set or regularizer is unknown, an option is unknown or out of range, or the device
            does not exist.

    Example:
        >>> from comhe.train import get_recipe
        >>> check_recipe(get_recipe("kipf", "gcn", "cora", "hs-mhe"))
    """
    find_domain(recipe.domain)
    if (domain := model_domain(recipe.model)) != recipe.domain:
        raise UsageError(f"{recipe.model} is a model for {domain}, but this is a recipe for {recipe.domain}")
    _check_data(recipe.data)
    if recipe.regularizer not in list_regularizers():
        hint = did_you_mean(recipe.regularizer, list_regularizers())
        raise UsageError(f"unknown regularizer {recipe.regularizer!r}; {hint}")
    _check_device(device)
    if recipe.domain == "graphs" and here().size > 1:
        raise UsageError("a graph is one batch, which several processes cannot divide: start it without torchrun")
    options = dict(recipe.regularizer_options)
    options |= {
        name: getattr(recipe, name) for name in ("weight", "output_weight") if getattr(recipe, name) is not None
    }
    sizes = recipe.model_arguments(**recipe.example_sizes)
    _check_options(recipe.model, tuple(sizes.items()), recipe.regularizer, tuple(options.items()))


def _check_data(name: str) -> None:
    base, _, path = name.partition(":")
    if base == "folder":
        if not Path(path).is_dir():
            raise UsageError(f"{name}: {path or 'an empty path'} is not a folder")
    elif base.split("-")[0] not in {known.split(":")[0].split("-")[0] for known in list_data()}:
        raise UsageError(f"unknown data set {name!r}; {did_you_mean(name, list_data())}")


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"device {device!r} cannot be used: {reason}") from error


@lru_cache(maxsize=64)
def _check_options(model: str, arguments: tuple, regularizer: str, options: tuple) -> None:
    """Build the model and attach the regularizer once; the seed of nothing else is touched."""
    with torch.random.fork_rng(devices=[]):
        create_regularizer(regularizer, create_model(model, **dict(arguments)), **dict(options))

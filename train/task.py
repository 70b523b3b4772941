"""What differs between domains."""

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from comhe.datasets import check_dataset
from comhe.errors import UsageError
from comhe.regularizers import Regularizer, create_regularizer
from comhe.zoo import create_model, model_domain
from comhe.zoo.preprocessing import Transform

from .engine.distributed import SINGLE_PROCESS, DistributedContext
from .recipe import Recipe, find_domain
from .start import keep_frozen_norms, load_start


class Task(Protocol):
    """A recipe's model, data, loss and metrics: all that differs between domains.

    The loop calls ``model``, ``start``, ``regularizer`` and ``optimizer`` once; then in each epoch ``on_epoch``, and
    for each of ``inputs``, in a step: ``collate``, ``microbatches``, ``loss``; after the epoch ``evaluate``. Methods
    may be called in any order. What is defined here does for one process, and for batches that fit on the device.
    """

    recipe: Recipe
    device: torch.device
    steps: int  # in an epoch
    context: DistributedContext = SINGLE_PROCESS
    generators: tuple[torch.Generator, ...] = ()  # that collate draws from, besides the device's default one

    @property
    def options(self) -> dict[str, Any]: ...  # of the model's builder

    @property
    def classes(self) -> Sequence[str]:
        """The names of the classes in the order of the logits, if they have names."""
        return ()

    def model(self) -> nn.Module:
        """Return a new model, initialized from torch's default generator."""
        return create_model(self.recipe.model, **self.options)

    def start(self, model: nn.Module) -> None:
        """Load the weights that the recipe starts from, and freeze what it says."""
        load_start(model, self.recipe)

    def regularizer(self, model: nn.Module) -> Regularizer:
        options = self.recipe.penalty_weights() | self.recipe.regularizer_options
        return create_regularizer(self.recipe.regularizer, model, seed=self.recipe.seed, **options)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer: ...

    def on_epoch(self, model: nn.Module, epoch: int) -> None:
        """Change what depends on the epoch, before its first step, when the model is in training mode."""
        if self.recipe.freeze != "none":
            keep_frozen_norms(model)

    def inputs(self, epoch: int, first: int = 0) -> Iterable[tuple[Tensor, ...]]:
        """Return what each step of an epoch is given, without the first ones, a function of seed and epoch alone."""

    def collate(self, *inputs: Tensor) -> tuple:
        """Make a batch that ends with the labels, by work on the device alone: a CUDA graph records it."""

    def microbatches(self, batch: tuple) -> Iterable[tuple[float, tuple]]:
        """Split a batch into what goes through the network at once, each with the factor of its loss."""
        yield 1.0, batch

    def loss(self, model: nn.Module, batch: tuple) -> tuple[Tensor, Tensor]:
        """Return the loss, a mean over the batch, and the logits."""

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Return at least ``accuracy``, a fraction of the samples of all ranks, and ``loss``."""

    def example(self) -> tuple:
        """Return the model's arguments for one sample, or for one graph, to count operations with."""

    def transforms(self) -> Transform:
        """Return what is applied to raw inputs before the model, other than augmentation."""


def make_task(
    recipe: Recipe, root: str | None = None, device: str = "cpu", context: DistributedContext = SINGLE_PROCESS
) -> Task:
    """Return the task of a recipe's domain, with its data loaded from ``root``, see :func:`comhe.train.fit`.

    Example:
        >>> from comhe.train import get_recipe
        >>> task = make_task(get_recipe("kipf", "gcn", "citations", "none"))
        >>> type(task).__name__, task.steps
        ('GraphTask', 1)
    """
    return find_domain(recipe.domain).task(recipe, root, device, context)


def check_recipe(recipe: Recipe, device: str = "cpu") -> None:
    """Check what can be checked without the data: names, options and device; UsageError if one does not fit.

    Example:
        >>> from comhe.train import get_recipe
        >>> check_recipe(get_recipe("kipf", "gcn", "cora", "hs-mhe"))
    """
    find_domain(recipe.domain)
    if (domain := model_domain(recipe.model)) != recipe.domain:
        raise UsageError(f"{recipe.model} is a model for {domain}, but this is a recipe for {recipe.domain}")
    check_dataset(recipe.data, recipe.domain)
    kind, _, path = recipe.data.partition(":")
    if kind == "folder" and not Path(path).is_dir():
        raise UsageError(f"{recipe.data}: {path or 'an empty path'} is not a folder")
    _check_device(device)
    options = recipe.penalty_weights() | recipe.regularizer_options
    sizes = recipe.model_arguments(**recipe.example_sizes)
    _check_options(recipe.model, tuple(sizes.items()), recipe.regularizer, json.dumps(options))


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"device {device!r} cannot be used: {reason}") from error


@lru_cache(maxsize=64)
def _check_options(model: str, arguments: tuple, regularizer: str, options: str) -> None:
    """Build the model and attach the regularizer once; the seed of nothing else is touched."""
    with torch.random.fork_rng(devices=[]):
        create_regularizer(regularizer, create_model(model, **dict(arguments)), **json.loads(options))

"""What differs between domains."""

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from comhe.datasets import check_dataset
from comhe.errors import ComheError, UsageError, first_line, seen_from
from comhe.regularizers import Regularizer, RegularizerWarning, create_regularizer
from comhe.zoo import create_model, model_domain
from comhe.zoo.preprocessing import Transform

from .engine.distributed import SINGLE_PROCESS, DistributedContext
from .hardware import choose_device, uses_bf16
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
    threads: int | None = None  # the most on the CPU that make a step faster, also where other processes are busy

    @property
    def bf16(self) -> bool:
        """Whether the network's forward pass runs in bfloat16."""
        return uses_bf16(self.recipe.precision, self.device)

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

    def adopt(self, transform: Transform) -> str:
        """Bring the data to what weights were trained on, as their preprocessing says; return what was done in words.

        It is called first of all, for weights of other data: a run that starts from them, or their evaluation.
        """
        return ""

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
    recipe: Recipe, root: str | None = None, device: str = "auto", context: DistributedContext = SINGLE_PROCESS
) -> Task:
    """Return the task of a recipe's domain, with its data loaded from ``root``, see :func:`comhe.train.fit`.

    Example:
        >>> from comhe.train import get_recipe
        >>> task = make_task(get_recipe("kipf", "gcn", "citations", "none"))
        >>> type(task).__name__, task.steps
        ('GraphTask', 1)
    """
    return find_domain(recipe.domain).task(recipe, root, choose_device(device), context)


def check_recipe(recipe: Recipe, device: str = "auto") -> None:
    """Check what can be checked without the data: names, options and device; UsageError if one does not fit.

    Example:
        >>> from comhe.train import get_recipe
        >>> check_recipe(get_recipe("kipf", "gcn", "cora", "hs-mhe"))
    """
    find_domain(recipe.domain)
    if (domain := model_domain(recipe.model)) != recipe.domain:
        raise UsageError(f"{recipe.model} is a model for {domain}, but this is a recipe for {recipe.domain}")
    check_dataset(recipe.dataset, recipe.domain)
    kind, _, path = recipe.data.partition(":")
    if kind == "folder" and not Path(path).is_dir():
        raise UsageError(f"{recipe.data}: {path or 'an empty path'} is not a folder{seen_from(Path(path))}")
    choose_device(device)
    options = recipe.penalty_weights() | recipe.regularizer_options
    sizes = recipe.model_arguments(**recipe.example_sizes)
    _check_options(recipe.model, tuple(sizes.items()), recipe.regularizer, json.dumps(options))


@lru_cache(maxsize=64)
def _check_options(model: str, arguments: tuple, regularizer: str, options: str) -> None:
    """Build the model and attach the regularizer once; the seed of nothing else is touched."""
    with torch.random.fork_rng(devices=[]):
        with _told(model, dict(arguments)):
            network = create_model(model, **dict(arguments))
        with _told(regularizer, json.loads(options)), warnings.catch_warnings():
            warnings.simplefilter("ignore", RegularizerWarning)  # the data decide the sizes of the run's own network
            create_regularizer(regularizer, network, **json.loads(options))


@contextmanager
def _told(name: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Make an error of what is built with these options, as of a word for a number, one that names them."""
    try:
        yield
    except ComheError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        said = ", ".join(f"{option}={value!r}" for option, value in options.items())
        reason = first_line(error)
        raise UsageError(f"{name} cannot be made with {said or 'its defaults'}: {reason}") from error

"""What differs between domains."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from comhe.datasets.sampling import Batches
from comhe.regularizers import Regularizer
from comhe.zoo.preprocessing import Transform

from .recipe import Recipe


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

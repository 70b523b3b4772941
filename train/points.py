"""Train point-cloud networks: ``python -m comhe.train.points`` or ``comhe train points``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from comhe.datasets import AUGMENTATIONS, Clouds, load_points
from comhe.datasets.sampling import Batches
from comhe.errors import UsageError
from comhe.regularizers import Regularizer
from comhe.zoo import create_model
from comhe.zoo.preprocessing import PointTransform

from .engine.batches import attach, evaluate_batches, logits_of, make_optimizer, parts_of
from .engine.ranks import here
from .recipe import BatchRecipe, cell_settings, register_domain, register_recipe, setting

EVALUATION_BATCH = 64


@dataclass(frozen=True)
class PointRecipe(BatchRecipe):
    """All settings of one run on point clouds."""

    example_sizes: ClassVar[Mapping[str, int]] = {"in_channels": 3, "num_classes": 10}

    domain: str = setting("points", "domain of the model")
    model: str = setting("pointnet", "a name of `comhe list models`")
    data: str = setting("modelnet40", "a name of `comhe list datasets`")
    batch_size: int = setting(32, "samples a step")
    optimizer: str = setting("adamw", "sgd, adam or adamw")
    lr: float = setting(1e-3, "learning rate")
    points: int = setting(1024, "points of a cloud that the network sees")
    augmentation: str = setting("pointnext", f"one of {', '.join(AUGMENTATIONS)}")
    norm_decay: float = setting(
        0.0, "share of the run after which batch norm's momentum halves, from 0.5 to 0.01; 0 for a constant 0.1"
    )
    votes: int = setting(0, "augmented views of each test cloud whose votes give the column `test_vote_accuracy`")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_one_of("augmentation", *AUGMENTATIONS)
        self.require(lambda value: value >= 1, "must be at least 1", "points")
        self.require(lambda value: value >= 0, "must not be negative", "norm_decay", "votes")
        if self.votes and self.augmentation == "none":
            raise UsageError(f"votes={self.votes} needs an augmentation: without one all views are the same")


class PointTask:
    """Classification of point clouds. What a model adds to its own loss (PointNet's transforms) is always added."""

    def __init__(self, recipe: PointRecipe, root: str | None = None, device: str = "cpu") -> None:
        self.recipe = recipe
        self.device = torch.device(device)
        self.clouds = _clouds(recipe.data, root, device)
        self.generators = (torch.Generator(self.device),)
        self._norms: list[_BatchNorm] = []
        self.batch = min(recipe.batch_size, len(self.clouds.train))
        self.share = here().share(self.batch, min(recipe.accumulate, self.batch))

    @property
    def steps(self) -> int:
        """Steps in an epoch: full batches of the training clouds."""
        return len(self.clouds.train) // self.batch

    @property
    def options(self) -> dict[str, Any]:
        """What the model is built with."""
        sizes = {"in_channels": self.clouds.num_channels, "num_classes": self.clouds.num_classes}
        return self.recipe.model_arguments(**sizes)

    def transforms(self) -> PointTransform:
        return PointTransform(self.recipe.points, self.clouds.num_channels)

    def model(self) -> nn.Module:
        model = create_model(self.recipe.model, **self.options)
        self._norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        return model

    def regularizer(self, model: nn.Module) -> Regularizer:
        return attach(self.recipe, model, self.recipe.epochs * self.steps)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return make_optimizer(self.recipe, model)

    def batches(self, epoch: int, first: int = 0) -> Batches:
        recipe = self.recipe
        if recipe.norm_decay:  # the released PointNet's, by the epoch
            momentum = max(0.01, 0.5 ** (1 + (epoch / recipe.epochs) // recipe.norm_decay))
            for module in self._norms:
                module.momentum = momentum
        options = {"points": recipe.points, "drop_last": True, "first": first, "generator": self.generators[0]}
        augmentation = AUGMENTATIONS[recipe.augmentation]
        return self.clouds.batches("train", self.batch, recipe.seed, epoch, augmentation, **options, share=self.share)

    def parts(self, batch: tuple[Tensor, Tensor]) -> Iterator[tuple[float, tuple[Tensor, Tensor]]]:
        return parts_of(batch, self.share, self.batch)

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, labels = batch
        logits = model(x).float()
        # A sum over the clouds, of which these are some.
        own = self.batch / (self.share.parts * len(labels)) * model.auxiliary_loss()
        return F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing) + own, logits

    def example(self) -> tuple[Tensor]:
        return (next(iter(self.clouds.batches("val", 1, points=self.recipe.points)))[0],)

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Accuracy over samples and its mean over classes; on test also that of votes, if the recipe wants any."""
        share = replace(self.share, parts=1)
        batches = self._stored(split, share.ranks * EVALUATION_BATCH, share=share)
        figures = evaluate_batches(model, batches, self.recipe.precision == "bf16")
        if self.recipe.votes and split == "test":
            figures["vote_accuracy"] = self._vote(model, split)
        return figures

    @torch.inference_mode()
    def _vote(self, model: nn.Module, split: str) -> float:
        """Accuracy of the mean probabilities over views of a cloud, each augmented in its own way."""
        generator = torch.Generator(self.device).manual_seed(self.recipe.seed)
        augmentation, right = AUGMENTATIONS[self.recipe.augmentation], torch.zeros((), device=self.device)
        share = replace(self.share, parts=1)
        for clouds, labels in self._stored(split, EVALUATION_BATCH):  # the same views on any number of ranks
            x, whole = share.of(clouds), len(clouds)
            views = (augmentation(x, generator, self.clouds.up, whole, share) for _ in range(self.recipe.votes))
            votes = sum(logits_of(model, view).softmax(1) for view in views)
            right += (votes.argmax(1) == share.of(labels)).sum()
        return here().sum(right).item() / len(self.clouds.part(split))

    def _stored(self, split: str, batch: int, **options: Any) -> Batches:
        return self.clouds.batches(split, batch, points=self.recipe.points, **options)


@lru_cache(maxsize=2)
def _clouds(name: str, root: str | None, device: str) -> Clouds:
    return load_points(name, root).to(device)


def modern(model: str, data: str, regularizer: str) -> PointRecipe:
    """Return PointNeXt's training (Qian et al., 2022)."""
    settings = cell_settings(model, data, regularizer)
    return PointRecipe(epochs=250, schedule="cosine", warmup=0.02, weight_decay=0.05, label_smoothing=0.2, **settings)


def paper(model: str, data: str, regularizer: str) -> PointRecipe:
    """Return PointNet's training (Qi et al., 2017).

    Adam at 0.001, times 0.7 and batch norm's momentum halved after every 200,000 samples, which is 0.0903 of 250
    epochs of the 8,856 clouds that are left when a tenth validates.
    """
    return PointRecipe(
        epochs=250,
        optimizer="adam",
        schedule="decay:0.7,0.0903",
        weight_decay=0.0,
        augmentation="pointnet",
        norm_decay=0.0903,
        **cell_settings(model, data, regularizer),
    )


def short(model: str, data: str, regularizer: str) -> PointRecipe:
    """Return a training for two CPU cores."""
    return modern(model, data, regularizer).replace(epochs=30, points=512, energies=1)


def register() -> None:
    """Make the domain and its recipes known; the usual recipe comes first."""
    register_domain(PointRecipe, PointTask)
    for recipe in (modern, paper, short):
        register_recipe(recipe)


if __name__ == "__main__":
    import sys

    from .cli.main import main

    sys.exit(main(["train", "points", *sys.argv[1:]]))

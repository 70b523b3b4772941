"""Train point-cloud networks: ``python -m comhe.train.points`` or ``comhe train points``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from comhe.datasets import AUGMENTATIONS, Clouds, load_points
from comhe.datasets.registry import with_up
from comhe.errors import UsageError, check_at_least
from comhe.zoo.points import auxiliary_loss
from comhe.zoo.preprocessing import PointTransform

from .choices import chosen
from .engine.batch_task import BatchTask, logits_of
from .engine.distributed import unwrap
from .recipe import WHAT, BatchRecipe, cell_settings, setting


@dataclass(frozen=True)
class PointRecipe(BatchRecipe):
    """All settings of one run on point clouds."""

    example_sizes: ClassVar[Mapping[str, int]] = {"in_channels": 3, "num_classes": 10}

    domain: str = setting("points", "domain of the model", WHAT)
    model: str = setting("pointnet", "a name of `comhe list models`", WHAT)
    data: str = setting("modelnet40", "a name of `comhe list datasets`", WHAT)
    batch_size: int = setting(32, "samples a step")
    optimizer: str = setting("adamw", "how weights are updated", choices=("sgd", "adam", "adamw"))
    lr: float = setting(1e-3, "learning rate")
    points: int = setting(1024, "points of a cloud that the network sees")
    augmentation: str = setting("pointnext", "how clouds are changed at random", choices=tuple(AUGMENTATIONS))
    up: str = setting("", "axis that points up in the shapes of a folder, x, y or z, if it is not the usual one", WHAT)
    norm_decay: float = setting(0.0, "share of the run after which batch norm's momentum (0.5 to 0.01) halves, or 0")
    votes: int = setting(0, "augmented views of each test cloud whose votes give the column `test_vote_accuracy`")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("points", self.points, 1)
        if self.up:  # it is a part of the set's name, under which every command finds it
            object.__setattr__(self, "data", with_up(self.data, self.up))
            object.__setattr__(self, "up", "")
        self.require(lambda value: value >= 0, "must not be negative", "norm_decay", "votes")
        if self.votes and self.augmentation == "none":
            raise UsageError(f"votes={self.votes} needs an augmentation: without one all views are the same")


class PointTask(BatchTask):
    """Classification of point clouds. What a model adds to its loss itself (PointNet's transforms) is always added."""

    recipe: PointRecipe
    data: Clouds
    load = staticmethod(load_points)
    evaluation_batch = 64

    def preprocessing(self) -> tuple[Any, dict[str, Any]]:
        return AUGMENTATIONS[self.recipe.augmentation], {"points": self.recipe.points}

    @property
    def options(self) -> dict[str, Any]:
        sizes = {"in_channels": self.data.num_channels, "num_classes": self.data.num_classes}
        return self.recipe.arguments_for(**sizes)

    def adopt(self, transform: Any) -> str:
        """Turn the clouds so that the same axis points up."""
        before, up = "xyz"[self.data.up], transform.up
        if up == before:
            return ""
        self.data = self.data.turned(up)
        self.begin()
        return f"{self.recipe.data}: {before} points up, but {up} in the clouds of these weights: they are turned"

    def transforms(self) -> PointTransform:
        return PointTransform(self.recipe.points, self.data.num_channels, "xyz"[self.data.up])

    def on_epoch(self, model: nn.Module, epoch: int) -> None:
        """Set batch norm's momentum, as the released PointNet does by the epoch."""
        super().on_epoch(model, epoch)
        if not self.recipe.norm_decay:
            return
        momentum = max(0.01, 0.5 ** (1 + (epoch / self.recipe.epochs) // self.recipe.norm_decay))
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.momentum = momentum

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, labels = batch
        logits = model(x).float()
        # The model's loss is a sum over the clouds, of which these are some.
        added = self.batch_size / (self.share.microbatches * len(labels)) * auxiliary_loss(unwrap(model))
        return F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing) + added, logits

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        figures = super().evaluate(model, split)
        if self.recipe.votes and split == "test":
            figures["vote_accuracy"] = self._vote(model, split)
        return figures

    @torch.inference_mode()
    def _vote(self, model: nn.Module, split: str) -> float:
        """Return the accuracy of the mean probabilities over views of a cloud, each augmented in its own way."""
        generator = torch.Generator(self.device).manual_seed(self.recipe.seed)
        correct, share = torch.zeros((), device=self.device), self.evaluation_share
        for clouds, labels in self.batches(split, self.evaluation_batch):  # the same views on any number of ranks
            x, count, up = share.take(clouds), len(clouds), self.data.up
            views = (self.augmentation(x, generator, up, count, share) for _ in range(self.recipe.votes))
            votes: Any = sum(logits_of(model, view).softmax(1) for view in views)
            correct += (votes.argmax(1) == share.take(labels)).sum()
        return self.context.sum(correct).item() / len(self.data.get_split(split))


def modern(model: str, data: str, regularizer: str) -> PointRecipe:
    """Return PointNeXt's training (Qian et al., 2022)."""
    settings = cell_settings(model, data, regularizer)
    return PointRecipe(epochs=250, schedule="cosine", warmup=0.02, weight_decay=0.05, label_smoothing=0.2, **settings)


def paper(model: str, data: str, regularizer: str) -> PointRecipe:
    """Return PointNet's training (Qi et al., 2017): decays after 200,000 samples, which is 0.0903 of 250 epochs."""
    settings = cell_settings(model, data, regularizer) | {"augmentation": "pointnet", "norm_decay": 0.0903}
    return PointRecipe(epochs=250, optimizer="adam", schedule="decay:0.7,0.0903", weight_decay=0.0, **settings)


def short(model: str, data: str, regularizer: str) -> PointRecipe:
    """Return a training for two CPU cores."""
    return modern(model, data, regularizer).replace(epochs=30, points=512, energies=1)


def one_cycle(model: str, data: str, regularizer: str) -> PointRecipe:
    """Return the usual training with batches and a rate twice as large: minutes for PointNet on a GPU."""
    schedule: dict[str, Any] = {"epochs": 200, "batch_size": 64, "lr": 2e-3, "warmup": 0.1, "energies": 10}
    return modern(model, data, regularizer).replace(**schedule)


@chosen
def few_labels(model: str, data: str, regularizer: str) -> PointRecipe:
    """Return a training on ten clouds of each class, all settings chosen for the cell: a minute of a GPU."""
    return modern(model, data, regularizer).replace(labels_per_class=10, epochs=120, points=512)


if __name__ == "__main__":
    import sys

    from .cli.main import main

    sys.exit(main(["train", "points", *sys.argv[1:]]))

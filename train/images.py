"""Train image networks: ``python -m comhe.train.images`` or ``comhe train images``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from comhe.datasets import CENTERED, ImageFiles, Images, load_images
from comhe.datasets.images.augment import Normalization
from comhe.datasets.sampling import Batches
from comhe.regularizers import Regularizer
from comhe.zoo import create_model
from comhe.zoo.preprocessing import ImageTransform

from .engine.batches import attach, evaluate_batches, make_optimizer, parts_of
from .engine.ranks import here
from .recipe import BatchRecipe, setting

EVALUATION_BATCH = 500


@dataclass(frozen=True)
class ImageRecipe(BatchRecipe):
    """One run on images."""

    model: str = setting("resnet20", "a name of `comhe list models`")
    data: str = setting("cifar100", "a name of `comhe list datasets`")
    lr: float = setting(0.1, "learning rate")
    loss: str = setting("cross-entropy", "cross-entropy, or `released`: -y log(softmax + 1e-4)")
    pad_mode: str = setting("zero", "what images in memory are padded with before a random crop: zero or symmetric")
    cutout: int = setting(0, "side of the square that is cut out of images in memory, 0 for none")
    normalization: str = setting("set", "by mean and deviation of the training `set`, or `centered`: (x - 127.5) / 128")
    channels_last: bool = setting(True, "memory format of images and convolutions")

    def __post_init__(self) -> None:
        super().__post_init__()
        choices = {
            "loss": ("cross-entropy", "released"),
            "pad_mode": ("zero", "symmetric"),
            "normalization": ("set", "centered"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be {' or '.join(map(repr, known))}, not {getattr(self, name)!r}")


class ImageTask:
    """Image classification, on images in memory or files."""

    generators = ()

    def __init__(self, recipe: ImageRecipe, root: str | None = None, device: str = "cpu") -> None:
        self.recipe = recipe
        self.device = torch.device(device)
        self.images = _images(recipe.data, root, device)
        self.augmentation = self.images.augmentation
        if isinstance(self.images, Images):
            self.augmentation = replace(self.augmentation, mode=recipe.pad_mode, cutout=recipe.cutout)
        self.batch = min(recipe.batch_size, len(self.images.train))
        self.share = here().share(self.batch, min(recipe.accumulate, self.batch))

    @property
    def steps(self) -> int:
        """Steps in an epoch: full batches of the training images."""
        return len(self.images.train) // self.batch

    @property
    def options(self) -> dict[str, Any]:
        """What the model is built with."""
        return {"num_classes": self.images.num_classes} | self.recipe.model_options

    def transforms(self) -> ImageTransform:
        mean, std = self._normalization or (self.images.mean, self.images.std)
        _, *size = self.images.shape
        return ImageTransform(mean, std, tuple(size), getattr(self.images, "resize", None))

    def model(self) -> nn.Module:
        model = create_model(self.recipe.model, **self.options)
        return model.to(memory_format=torch.channels_last if self.recipe.channels_last else torch.contiguous_format)

    def regularizer(self, model: nn.Module) -> Regularizer:
        return attach(self.recipe, model, self.recipe.epochs * self.steps)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return make_optimizer(self.recipe, model)

    def batches(self, epoch: int, first: int = 0) -> Batches:
        recipe = self.recipe
        options = {"drop_last": True, "first": first, "share": self.share}
        return self._batches("train", self.batch, recipe.seed, epoch, self.augmentation, **options)

    def parts(self, batch: tuple[Tensor, Tensor]) -> Iterator[tuple[float, tuple[Tensor, Tensor]]]:
        return parts_of(batch, self.share, self.batch)

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, labels = batch
        logits = model(x).float()
        if self.recipe.loss == "released":
            return released_loss(logits, labels, self.recipe.label_smoothing), logits
        return F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing), logits

    def example(self) -> tuple[Tensor]:
        return (next(iter(self._batches("val", 1)))[0],)

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        share = replace(self.share, parts=1)
        batches = self._batches(split, share.ranks * EVALUATION_BATCH, share=share)
        return evaluate_batches(model, batches, self.recipe.precision == "bf16")

    @property
    def _normalization(self) -> Normalization | None:
        return CENTERED if self.recipe.normalization == "centered" else None

    def _batches(self, *arguments: Any, **options: Any) -> Batches:
        options |= {"normalization": self._normalization, "channels_last": self.recipe.channels_last}
        return self.images.batches(*arguments, **options)


def released_loss(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    r"""The released code's loss, finite however large the logits are, and flat where the wrong class is certain.

    .. math:: L = -\frac{1}{B} \sum_{b,k} y_{bk} \log(\mathrm{softmax}(z_b)_k + 10^{-4}), \qquad
              y = (1 - \epsilon)\,\mathrm{onehot} + \epsilon / K

    Source: github.com/rmlin/CoMHE.
    """
    logs = (logits.softmax(1) + 1e-4).log()
    own = logs.gather(1, labels[:, None])[:, 0]
    return -((1 - smoothing) * own + smoothing * logs.mean(1)).mean()


@lru_cache(maxsize=2)
def _images(name: str, root: str | None, device: str) -> Images | ImageFiles:
    return load_images(name, root).to(device)


if __name__ == "__main__":
    import sys

    from .cli.main import main

    sys.exit(main(["train", "images", *sys.argv[1:]]))

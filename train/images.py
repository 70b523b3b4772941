"""Train image networks: ``python -m comhe.train.images`` or ``comhe train images``."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from comhe.datasets import ImageFiles, Images, load_images
from comhe.regularizers import regularizer_options
from comhe.regularizers.penalties.energy_penalty import EnergyPenalty
from comhe.regularizers.registry import find_penalty
from comhe.zoo.preprocessing import ImageTransform

from .choices import chosen
from .engine.batch_task import BatchTask
from .hardware import share_of_cores
from .normalization import parse_normalization
from .recipe import WHAT, BatchRecipe, cell_settings, setting

FITTED = 5000  # images that a network is fitted to before training


@dataclass(frozen=True)
class ImageRecipe(BatchRecipe):
    """All settings of one run on images."""

    domain: str = setting("images", "domain of the model", WHAT)
    model: str = setting("resnet20", "a name of `comhe list models`", WHAT)
    data: str = setting("cifar100", "a name of `comhe list datasets`", WHAT)
    lr: float = setting(0.1, "learning rate")
    loss: str = setting("cross-entropy", "`released` is -y log(softmax + 1e-4)", choices=("cross-entropy", "released"))
    pad_mode: str = setting(
        "zero", "what images in memory are padded with before a random crop", choices=("zero", "symmetric")
    )
    cutout: int = setting(0, "side of the square that is cut out of images in memory, 0 for none")
    normalization: str = setting("set", "by mean and deviation of the training `set`, `centered`, `imagenet` ...")
    channels_last: bool = setting(True, "memory format of images and convolutions")

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_normalization(self.normalization)


def _load(name: str, root: str | None) -> Images | ImageFiles:
    return load_images(name, root, workers=share_of_cores())


class ImageTask(BatchTask):
    """Image classification, on images in memory or files."""

    recipe: ImageRecipe
    data: Images | ImageFiles
    load = staticmethod(_load)
    evaluation_batch = 500

    def preprocessing(self) -> tuple[Any, dict[str, Any]]:
        recipe, data = self.recipe, self.data
        self.normalization = parse_normalization(recipe.normalization) or (data.mean, data.std)
        augmentation: Any = data.augmentation
        if isinstance(data, Images):
            augmentation = replace(augmentation, mode=recipe.pad_mode, cutout=recipe.cutout)
        return augmentation, {"normalization": self.normalization, "channels_last": recipe.channels_last}

    def transforms(self) -> ImageTransform:
        _, height, width = self.data.shape
        return ImageTransform(*self.normalization, (height, width), getattr(self.data, "resize", None))

    def model(self) -> nn.Module:
        order = torch.channels_last if self.recipe.channels_last else torch.contiguous_format
        return super().model().to(memory_format=order)

    def start(self, model: nn.Module) -> None:
        """Also fit a network to the images before training, if it has a way to: see :func:`register_model`."""
        if (fit_inputs := getattr(model, "fit_inputs", None)) is not None:
            fit_inputs(next(self.batches("train", FITTED))[0])
        super().start(model)

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, labels = batch
        logits = model(x).float()
        if self.recipe.loss == "released":
            return released_loss(logits, labels, self.recipe.label_smoothing), logits
        return F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing), logits


def released_loss(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    r"""The released code's loss, finite for all logits: :math:`-\frac{1}{B} \sum_{b,k} y_{bk} \log(p_{bk} + 10^{-4})`.

    Here p is the softmax, and y the smoothed target :math:`(1 - \epsilon)\,\mathrm{onehot} + \epsilon / K`.
    Source: github.com/rmlin/CoMHE.
    """
    logs = (logits.softmax(1) + 1e-4).log()
    target = logs.gather(1, labels[:, None])[:, 0]
    return -((1 - smoothing) * target + smoothing * logs.mean(1)).mean()


# The released CoMHE training: 75,000 steps of 128 with the rate divided by ten after 30,000, 50,000 and 65,000, here
# in epochs of 351 steps, since 5,000 of the 50,000 training images validate.
RELEASED: dict[str, Any] = {"loss": "released", "label_smoothing": 0.01, "pad_mode": "symmetric", "nesterov": False}
PAPER = ImageRecipe(
    epochs=214, schedule="step:0.4,0.6667,0.8667", decay="all", normalization="centered", energies=1, **RELEASED
)


def modern(model: str, data: str, regularizer: str) -> ImageRecipe:
    """Return today's usual training: 200 epochs, a warmup and a cosine, smoothed labels."""
    settings = cell_settings(model, data, regularizer)
    return ImageRecipe(epochs=200, schedule="cosine", warmup=0.025, label_smoothing=0.1, clip=1.0, **settings)


def paper(model: str, data: str, regularizer: str) -> ImageRecipe:
    """Return the training of the released CoMHE code, which adds a constant inside the norms."""
    settings = cell_settings(model, data, regularizer)
    penalty = find_penalty(regularizer)
    is_energy = isinstance(penalty, type) and issubclass(penalty, EnergyPenalty)
    if is_energy and "eps" in regularizer_options(regularizer):
        settings["regularizer_options"] = {"eps": 1e-4}
    return PAPER.replace(**settings)


def short(model: str, data: str, regularizer: str) -> ImageRecipe:
    """Return a training for two CPU cores: a ResNet-20 on CIFAR-100 takes one of them 20 minutes."""
    settings = cell_settings(model, data, regularizer)
    return ImageRecipe(epochs=6, lr=0.2, schedule="one-cycle", warmup=0.2, precision="auto", energies=1, **settings)


@chosen
def one_cycle(model: str, data: str, regularizer: str) -> ImageRecipe:
    """Return ten epochs with a warm-up and a cosine: minutes for CNN-6 on a GPU, hours on two CPU cores."""
    settings = cell_settings(model, data, regularizer)
    schedule: dict[str, Any] = {"epochs": 10, "batch_size": 64, "lr": 0.03, "schedule": "cosine", "warmup": 0.1}
    return ImageRecipe(precision="auto", energies=1, **schedule, **settings)


@chosen
def few_labels(model: str, data: str, regularizer: str) -> ImageRecipe:
    """Return a training on twenty images of each class, all settings chosen for the cell: a minute of a GPU."""
    settings = cell_settings(model, data, regularizer)
    schedule: dict[str, Any] = {"epochs": 80, "batch_size": 64, "lr": 0.03, "schedule": "cosine", "warmup": 0.1}
    return ImageRecipe(labels_per_class=20, precision="auto", **schedule, **settings)


@chosen
def airbench(model: str, data: str, regularizer: str) -> ImageRecipe:
    """Return a training of ``airbench94``, an hour of two CPU cores: large batches, smoothed labels, one cycle."""
    settings = cell_settings(model, data, regularizer)
    return ImageRecipe(
        epochs=12, batch_size=512, lr=1.0, momentum=0.85, schedule="one-cycle", warmup=0.2,
        label_smoothing=0.2, ema=0.99, precision="auto", energies=1, **settings,
    )  # fmt: skip


if __name__ == "__main__":
    import sys

    from .cli.main import main

    sys.exit(main(["train", "images", *sys.argv[1:]]))

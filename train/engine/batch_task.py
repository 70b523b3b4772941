"""What the tasks share that train on batches of samples: regularizer, optimizer, microbatches, evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from comhe.datasets.sampling import Share
from comhe.regularizers import Regularizer, create_regularizer, regularizer_options
from comhe.train.recipe import BatchRecipe, Recipe

from .distributed import SINGLE_PROCESS, DistributedContext


class BatchTask:
    """Base of the tasks whose data set is divided into batches of samples.

    Args:
        recipe: the settings.
        data: a data set on its device, with ``train``, ``val`` and ``test``.
        device: of model and data.
        context: the processes that share each batch.
    """

    generators: tuple[torch.Generator, ...] = ()

    def __init__(self, recipe: BatchRecipe, data: Any, device: str, context: DistributedContext) -> None:
        self.recipe, self.data, self.context = recipe, data, context
        self.device = torch.device(device)
        self.batch_size = min(recipe.batch_size, len(data.train))
        self.share = context.share(self.batch_size, min(recipe.accumulate, self.batch_size))

    @property
    def steps(self) -> int:
        """Number of steps in an epoch: full batches of the training samples."""
        return len(self.data.train) // self.batch_size

    def regularizer(self, model: nn.Module) -> Regularizer:
        return make_regularizer(self.recipe, model, self.recipe.epochs * self.steps)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return make_optimizer(self.recipe, model)

    def on_epoch(self, model: nn.Module, epoch: int) -> None:
        """Change nothing by the epoch."""

    def microbatches(self, batch: tuple[Tensor, Tensor]) -> Iterator[tuple[float, tuple[Tensor, Tensor]]]:
        return split_batch(batch, self.share, self.batch_size)

    def evaluation_share(self) -> Share:
        return replace(self.share, parts=1)


def make_regularizer(recipe: Recipe, model: nn.Module, steps: int) -> Regularizer:
    """Attach the recipe's regularizer; learned projections move at the network's learning rate, as the released ones.

    Args:
        steps: number of steps of the run, of which the learning rate is a function.
    """
    options: dict[str, Any] = dict(recipe.regularizer_options)
    if "rate" in regularizer_options(recipe.regularizer):
        options.setdefault("rate", lambda step: max(recipe.lr_at(step, steps), 1e-12))
    return create_regularizer(recipe.regularizer, model, seed=recipe.seed, **recipe.weights(), **options)


def make_optimizer(recipe: BatchRecipe, model: nn.Module) -> torch.optim.Optimizer:
    """Return SGD, Adam or AdamW, with weight decay on the parameters that the recipe names."""
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in model.parameters():
        groups[recipe.decay == "all" or parameter.dim() > 1].append(parameter)
    settings = [
        {"params": parameters, "weight_decay": recipe.weight_decay if decays else 0.0}
        for decays, parameters in groups.items()
        if parameters
    ]
    if recipe.optimizer == "sgd":
        nesterov = recipe.nesterov and recipe.momentum > 0
        return torch.optim.SGD(settings, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov, fused=True)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(settings, lr=recipe.lr, fused=True, capturable=next(model.parameters()).is_cuda)


def split_batch(
    batch: tuple[Tensor, Tensor], share: Share, batch_size: int
) -> Iterator[tuple[float, tuple[Tensor, Tensor]]]:
    """Split this process's share of a batch of ``batch_size`` samples into microbatches, each with a factor.

    With the factors on their mean losses, the sum over the microbatches, averaged over the ranks, is the batch's mean.
    """
    x, labels = batch
    sizes = [run.stop - run.start for _, run in share.runs(batch_size)]
    for size, *microbatch in zip(sizes, x.split(sizes), labels.split(sizes), strict=True):
        if size:
            yield share.ranks * size / batch_size, tuple(microbatch)


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """Return logits [b, K], float32. An empty batch is replaced by one blank sample, whose logits are dropped."""
    return model(x if len(x) else x.new_zeros(1, *x.shape[1:]))[: len(x)].float()


@torch.inference_mode()
def evaluate_batches(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], bf16: bool, context: DistributedContext = SINGLE_PROCESS
) -> dict[str, float]:
    """Evaluate a model on the samples of all ranks.

    Returns:
        ``accuracy`` and ``top5`` over samples, ``class_accuracy`` (its mean over the classes), and the mean ``loss``.
    """
    model.eval()
    correct: Any = 0  # by class
    count: Any = 0  # by class
    sums: Any = 0
    for x, labels in batches:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            logits = logits_of(model, x)
        classes = logits.shape[1]
        hits = logits.topk(min(5, classes)).indices == labels[:, None]
        zeros = torch.zeros(classes, dtype=torch.int64, device=labels.device)
        correct = correct + zeros.index_add(0, labels, hits[:, 0].long())  # bincount would wait for the device
        count = count + zeros.index_add(0, labels, torch.ones_like(labels))
        loss = F.cross_entropy(logits, labels, reduction="sum")
        sums = sums + torch.stack((hits.sum().double(), loss.double()))
    correct, count, sums = context.sum(correct), context.sum(count), context.sum(sums)
    samples = count.sum()
    present = count > 0  # a class without samples has no accuracy
    figures = (
        correct.sum() / samples,
        sums[0] / samples,
        (correct[present] / count[present]).mean(),
        sums[1] / samples,
    )
    values = torch.stack([figure.double() for figure in figures]).tolist()  # CPU-GPU sync point
    return dict(zip(("accuracy", "top5", "class_accuracy", "loss"), values, strict=True))

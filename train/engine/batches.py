"""What the tasks share that train on batches of samples: optimizer, regularizer, parts of a batch, evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from comhe.datasets.sampling import Share
from comhe.regularizers import Regularizer, create_regularizer, regularizer_options
from comhe.train.recipe import BatchRecipe, Recipe

from .ranks import here


def attach(recipe: Recipe, model: nn.Module, steps: int) -> Regularizer:
    """The recipe's regularizer. Learned projections move at the network's learning rate, as in the released code."""
    options: dict[str, Any] = dict(recipe.regularizer_options)
    if "rate" in regularizer_options(recipe.regularizer):
        options.setdefault("rate", lambda step: max(recipe.lr_at(step, steps), 1e-12))
    for name in ("weight", "output_weight"):
        if getattr(recipe, name) is not None:
            options[name] = getattr(recipe, name)
    return create_regularizer(recipe.regularizer, model, seed=recipe.seed, **options)


def make_optimizer(recipe: BatchRecipe, model: nn.Module) -> torch.optim.Optimizer:
    """SGD, Adam or AdamW, with weight decay where the recipe wants it."""
    groups = {True: [], False: []}
    for parameter in model.parameters():
        groups[recipe.decay == "all" or parameter.dim() > 1].append(parameter)
    parts = [
        {"params": parameters, "weight_decay": recipe.weight_decay if decays else 0.0}
        for decays, parameters in groups.items()
        if parameters
    ]
    parameter = next(model.parameters())
    fused = not hasattr(parameter, "full_tensor")  # under FSDP there is no fused SGD
    if recipe.optimizer == "sgd":
        nesterov = recipe.nesterov and recipe.momentum > 0
        return torch.optim.SGD(parts, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov, fused=fused)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(parts, lr=recipe.lr, fused=fused, capturable=fused and parameter.is_cuda)


def parts_of(batch: tuple[Tensor, Tensor], share: Share, count: int) -> Iterator[tuple[float, tuple[Tensor, Tensor]]]:
    """What is here of a batch of ``count`` samples in its parts, each with a factor for its mean loss.

    The factors are such that the sum over the parts, and the mean over the ranks of that, is the mean over the batch.
    """
    x, labels = batch
    sizes = [run.stop - run.start for _, run in share.runs(count)]
    for size, *part in zip(sizes, x.split(sizes), labels.split(sizes), strict=True):
        if size:
            yield share.ranks * size / count, tuple(part)


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """Logits [b, K], float32, also of no sample at all: then the model sees a blank one that does not count."""
    return model(x if len(x) else x.new_zeros(1, *x.shape[1:]))[: len(x)].float()


@torch.inference_mode()
def evaluate_batches(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], bf16: bool) -> dict[str, float]:
    """Figures of all samples, those of all ranks: shares of those whose class comes first (``accuracy``) and among the
    first five (``top5``), the mean over the classes of the first (``class_accuracy``), and the mean ``loss``."""
    model.eval()
    right: Any = 0  # samples whose class comes first, by class; the same for all samples
    count: Any = 0
    sums: Any = 0
    for x, labels in batches:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            logits = logits_of(model, x)
        classes = logits.shape[1]
        hits = logits.topk(min(5, classes)).indices == labels[:, None]
        none = torch.zeros(classes, dtype=torch.int64, device=labels.device)
        right = right + none.index_add(0, labels, hits[:, 0].long())  # bincount would wait for the device
        count = count + none.index_add(0, labels, torch.ones_like(labels))
        loss = F.cross_entropy(logits, labels, reduction="sum")
        sums = sums + torch.stack((hits.sum().double(), loss.double()))
    ranks = here()
    right, count, sums = ranks.sum(right), ranks.sum(count), ranks.sum(sums)
    samples = count.sum()
    seen = count > 0  # a class without samples has no accuracy
    figures = (right.sum() / samples, sums[0] / samples, (right[seen] / count[seen]).mean(), sums[1] / samples)
    values = torch.stack([figure.double() for figure in figures]).tolist()  # CPU-GPU sync point
    return dict(zip(("accuracy", "top5", "class_accuracy", "loss"), values, strict=True))

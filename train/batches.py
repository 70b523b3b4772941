"""What the tasks share that train on batches of samples: optimizer, regularizer, parts of a batch, evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from comhe.regularizers import Regularizer, create_regularizer, regularizer_options

from .recipe import BatchRecipe, Recipe


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
    if recipe.optimizer == "sgd":
        nesterov = recipe.nesterov and recipe.momentum > 0
        return torch.optim.SGD(parts, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov, fused=True)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(parts, lr=recipe.lr, fused=True, capturable=next(model.parameters()).is_cuda)


def parts_of(batch: tuple[Tensor, Tensor], count: int) -> Iterator[tuple[float, tuple[Tensor, Tensor]]]:
    """A batch in up to ``count`` parts, each with its share of the samples."""
    x, labels = batch
    for part in zip(x.tensor_split(count), labels.tensor_split(count), strict=True):
        if len(part[1]):
            yield len(part[1]) / len(labels), part


@torch.inference_mode()
def evaluate_batches(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], bf16: bool) -> dict[str, float]:
    """Figures of all samples: shares of those whose class comes first (``accuracy``) and among the first five
    (``top5``), the mean over the classes of the first (``class_accuracy``), and the mean ``loss``."""
    model.eval()
    right: Any = 0  # samples whose class comes first, by class; the same for all samples
    count: Any = 0
    sums: Any = 0
    for x, labels in batches:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            logits = model(x)
        logits = logits.float()
        classes = logits.shape[1]
        hits = logits.topk(min(5, classes)).indices == labels[:, None]
        none = torch.zeros(classes, dtype=torch.int64, device=labels.device)
        right = right + none.index_add(0, labels, hits[:, 0].long())  # bincount would wait for the device
        count = count + none.index_add(0, labels, torch.ones_like(labels))
        loss = F.cross_entropy(logits, labels, reduction="sum")
        sums = sums + torch.stack((hits.sum().double(), loss.double()))
    samples = count.sum()
    seen = count > 0  # a class without samples has no accuracy
    figures = (right.sum() / samples, sums[0] / samples, (right[seen] / count[seen]).mean(), sums[1] / samples)
    values = torch.stack([figure.double() for figure in figures]).tolist()  # CPU-GPU sync point
    return dict(zip(("accuracy", "top5", "class_accuracy", "loss"), values, strict=True))

"""What the tasks share that train on batches of samples: regularizer, optimizer, microbatches, evaluation."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from comhe.datasets import Share
from comhe.datasets.labeled import LabeledSet
from comhe.progress import tracked
from comhe.regularizers import Regularizer, create_regularizer
from comhe.regularizers.registry import find_penalty
from comhe.train.recipe import BatchRecipe, Recipe
from comhe.train.runs.fingerprint import data_stamp
from comhe.train.start import layer_scales
from comhe.train.task import Task

from .distributed import SINGLE_PROCESS, DistributedContext

Batch = tuple[Tensor, Tensor]  # samples and labels


class BatchTask(Task):
    """Base of tasks on batches; ``load`` returns the data set, ``evaluation_batch`` samples are evaluated at once."""

    recipe: BatchRecipe
    load: Callable[[str, str | None], LabeledSet]
    evaluation_batch: int

    def __init__(
        self, recipe: Any, root: str | None = None, device: str = "cpu", context: DistributedContext = SINGLE_PROCESS
    ) -> None:
        self.recipe, self.context = recipe, context
        self.device = torch.device(device)
        data = _load(type(self).load, recipe.dataset, root, device, data_stamp(recipe.dataset, recipe.domain))
        self.data: Any = data.with_labels(recipe.labels_per_class, recipe.label_noise, recipe.seed)
        self.batch_size = min(recipe.batch_size, len(self.data.train))
        self.share = context.share(self.batch_size, min(recipe.accumulate, self.batch_size))
        self.evaluation_share = replace(self.share, microbatches=1)
        self.begin()

    def begin(self) -> None:
        """Make the loader of the training split of ``data``."""
        recipe = self.recipe
        self.augmentation, self._options = self.preprocessing()
        options = {"drop_last": True, "share": self.share, **self._options}
        self.loader = self.data.loader("train", self.batch_size, recipe.seed, self.augmentation, **options)
        self.generators, self.steps = self.loader.generators, self.loader.steps
        self.inputs = self.loader.inputs  # type: ignore[method-assign]
        self.collate = self.loader.collate  # type: ignore[method-assign]

    @property
    def options(self) -> dict[str, Any]:
        return self.recipe.arguments_for(num_classes=self.data.num_classes)

    @property
    def classes(self) -> Sequence[str]:
        return self.data.classes

    def preprocessing(self) -> tuple[Any, dict[str, Any]]:
        """Return the augmentation of training samples, and further options of the data set's loaders."""
        raise NotImplementedError

    def regularizer(self, model: nn.Module) -> Regularizer:
        """Attach the regularizer; learned projections move at the network's learning rate, as the released ones."""
        recipe, steps = self.recipe, self.recipe.epochs * self.steps
        options: dict[str, Any] = recipe.penalty_weights() | recipe.regularizer_options
        if rate := find_penalty(recipe.regularizer).follows_lr:
            options.setdefault(rate, lambda step: max(recipe.lr_at(step, steps), 1e-12))
        return create_regularizer(recipe.regularizer, model, seed=recipe.seed, **options)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return make_optimizer(self.recipe, model)

    def microbatches(self, batch: Batch) -> Iterator[tuple[float, Batch]]:
        return split_batch(batch, self.share, self.batch_size)

    def example(self) -> tuple[Tensor]:
        return (next(self.batches("val", 1))[0],)

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        batches = self.batches(split, self.context.world_size * self.evaluation_batch, share=self.evaluation_share)
        return evaluate_batches(model, self.watched(batches, split), self.bf16, self.context)

    def watched(self, batches: Iterable[Batch], split: str) -> Iterator[Batch]:
        """Iterate over a split's batches, and report how many of its samples are done."""
        label, total, ranks = f"{self.recipe.data} {split}", len(self.data.get_split(split)), self.share.ranks
        return tracked(batches, label, total, "sample", lambda batch: ranks * len(batch[1]))

    def batches(self, split: str, batch_size: int, **options: Any) -> Iterator[Batch]:
        """Iterate over a split in its stored order, without augmentation."""
        return self.data.batches(split, batch_size, **options, **self._options)


@lru_cache(maxsize=2)
def _load(load: Callable[[str, str | None], Any], name: str, root: str | None, device: str, stamp: object) -> Any:
    return load(name, root).to(device)


def make_optimizer(recipe: BatchRecipe, model: nn.Module) -> torch.optim.Optimizer:
    """Return SGD, Adam or AdamW, with weight decay on the parameters that the recipe names."""
    groups = parameter_groups(recipe, model, lambda _, p: recipe.decay == "all" or p.dim() > 1)
    if recipe.optimizer == "sgd":
        nesterov = recipe.nesterov and recipe.momentum > 0
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov, fused=True)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=recipe.lr, fused=True, capturable=next(model.parameters()).is_cuda)


def parameter_groups(recipe: Recipe, model: nn.Module, decays: Callable[[str, Tensor], bool]) -> list[dict]:
    """Return an optimizer's groups of the parameters that are trained, with weight decay on some, by name and value.

    Those with weight decay come first. ``lr_scale`` is the factor of a group's learning rate.
    """
    scales = layer_scales(model, recipe.layer_decay)
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {(True, 1.0): [], (False, 1.0): []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((decays(name, parameter), scales[name]), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": recipe.weight_decay if decaying else 0.0, "lr_scale": scale}
        for (decaying, scale), parameters in groups.items()
        if parameters
    ]


def split_batch(batch: Batch, share: Share, batch_size: int) -> Iterator[tuple[float, Batch]]:
    """Split this process's share of a batch; factors times mean losses, averaged over ranks, sum to its mean."""
    x, labels = batch
    sizes = [samples.stop - samples.start for _, samples in share.slices(batch_size)]
    for size, *microbatch in zip(sizes, x.split(sizes), labels.split(sizes), strict=True):
        if size:
            yield share.ranks * size / batch_size, tuple(microbatch)


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """Return logits [b, K], float32. An empty batch is replaced by one blank sample, whose logits are dropped."""
    return model(x if len(x) else x.new_zeros(1, *x.shape[1:]))[: len(x)].float()


@torch.inference_mode()
def evaluate_batches(
    model: nn.Module, batches: Iterable[Batch], bf16: bool, context: DistributedContext = SINGLE_PROCESS
) -> dict[str, float]:
    """Return ``accuracy`` and ``top5`` over samples of all ranks, their mean over classes, and the mean ``loss``."""
    model.eval()
    correct: Any = 0
    count: Any = 0  # like correct, by class
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
    by_class = (correct[present] / count[present]).mean()
    figures = (correct.sum() / samples, sums[0] / samples, by_class, sums[1] / samples)
    values = torch.stack([figure.double() for figure in figures]).tolist()  # CPU-GPU sync point
    return dict(zip(("accuracy", "top5", "class_accuracy", "loss"), values, strict=True))

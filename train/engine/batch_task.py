"""What the tasks share that train on batches of samples: regularizer, optimizer, microbatches, evaluation."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from comhe.datasets import Share
from comhe.datasets.labeled import LabeledSet
from comhe.regularizers import Regularizer, create_regularizer, regularizer_options
from comhe.train.recipe import BatchRecipe, Recipe

from .distributed import SINGLE_PROCESS, DistributedContext


class BatchTask:
    """Base of the tasks whose data set, on its device, is divided into batches of samples.

    A process evaluates ``evaluation_batch`` samples at once; ``options`` are further ones of the data set's loaders.
    """

    def __init__(
        self,
        recipe: BatchRecipe,
        data: LabeledSet,
        device: str,
        context: DistributedContext,
        augmentation: Any,
        evaluation_batch: int,
        **options: Any,
    ) -> None:
        self.recipe, self.data, self.context = recipe, data, context
        self.device = torch.device(device)
        self.batch_size = min(recipe.batch_size, len(data.train))
        self.share = context.share(self.batch_size, min(recipe.accumulate, self.batch_size))
        self.evaluation_batch, self.evaluation_share = evaluation_batch, replace(self.share, microbatches=1)
        self._options = options
        training = {"drop_last": True, "share": self.share}
        self.loader = data.loader("train", self.batch_size, recipe.seed, augmentation, **training, **options)
        self.generators, self.steps = self.loader.generators, self.loader.steps
        self.inputs, self.collate = self.loader.inputs, self.loader.collate

    def regularizer(self, model: nn.Module) -> Regularizer:
        return make_regularizer(self.recipe, model, self.recipe.epochs * self.steps)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return make_optimizer(self.recipe, model)

    def on_epoch(self, model: nn.Module, epoch: int) -> None:
        pass

    def microbatches(self, batch: tuple[Tensor, Tensor]) -> Iterator[tuple[float, tuple[Tensor, Tensor]]]:
        return split_batch(batch, self.share, self.batch_size)

    def example(self) -> tuple[Tensor]:
        return (next(self.batches("val", 1))[0],)

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        batches = self.batches(split, self.context.world_size * self.evaluation_batch, share=self.evaluation_share)
        return evaluate_batches(model, batches, self.recipe.precision == "bf16", self.context)

    def batches(self, split: str, batch_size: int, **options: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over a split in its stored order, without augmentation."""
        return self.data.batches(split, batch_size, **options, **self._options)


def make_regularizer(recipe: Recipe, model: nn.Module, steps: int) -> Regularizer:
    """Attach the recipe's regularizer; learned projections move at the network's learning rate, as the released ones.

    That rate is a function of the number of ``steps`` of the run.
    """
    options: dict[str, Any] = dict(recipe.regularizer_options)
    if "rate" in regularizer_options(recipe.regularizer):
        options.setdefault("rate", lambda step: max(recipe.lr_at(step, steps), 1e-12))
    return create_regularizer(recipe.regularizer, model, seed=recipe.seed, **recipe.weights(), **options)


def make_optimizer(recipe: BatchRecipe, model: nn.Module) -> torch.optim.Optimizer:
    """Return SGD, Adam or AdamW, with weight decay on the parameters that the recipe names."""
    groups = parameter_groups(model, recipe.weight_decay, lambda _, p: recipe.decay == "all" or p.dim() > 1)
    if recipe.optimizer == "sgd":
        nesterov = recipe.nesterov and recipe.momentum > 0
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov, fused=True)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=recipe.lr, fused=True, capturable=next(model.parameters()).is_cuda)


def parameter_groups(
    model: nn.Module, weight_decay: float, decays: Callable[[str, nn.Parameter], bool]
) -> list[dict[str, Any]]:
    """Return an optimizer's groups: first the parameters whose weights decay, by name and value, then the others."""
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        groups[decays(name, parameter)].append(parameter)
    found = ({"params": p, "weight_decay": weight_decay if decaying else 0.0} for decaying, p in groups.items())
    return [group for group in found if group["params"]]


def split_batch(
    batch: tuple[Tensor, Tensor], share: Share, batch_size: int
) -> Iterator[tuple[float, tuple[Tensor, Tensor]]]:
    """Split this process's share of a batch of ``batch_size`` samples into microbatches, each with a factor.

    With the factors on their mean losses, the sum over the microbatches, averaged over the ranks, is the batch's mean.
    """
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
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], bf16: bool, context: DistributedContext = SINGLE_PROCESS
) -> dict[str, float]:
    """Evaluate a model on the samples of all ranks.

    Returns:
        ``accuracy`` and ``top5`` over samples, ``class_accuracy`` (its mean over the classes), and the mean ``loss``.
    """
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

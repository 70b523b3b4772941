"""Evaluation of weights that others trained: what their images were normalized with is found, or asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from comhe.errors import UsageError, WeightsError
from comhe.train.normalization import NORMALIZATIONS, parse_normalization
from comhe.train.recipe import SIZES, Recipe, told_sizes
from comhe.train.task import check_recipe, make_task
from comhe.zoo import load_weights

IMAGES, PADDING = 500, 4  # images that statistics are of, and pixels of the usual crop's padding
LARGEST_ERROR, LEAST_RATIO = 0.1, 1.5  # of the statistics that are explained, and to the next explanation
PLAIN = NORMALIZATIONS["unit"]


def evaluate_file(
    recipe: Recipe,
    path: Path,
    normalization: str | None = None,
    key: str | None = None,
    root: str | None = None,
    device: str = "auto",
) -> tuple[list[str], dict[str, float]]:
    """Evaluate a state dict of any known layout on a recipe's test set: what was decided, and metrics by name.

    Only on the test set, because others may have trained on what is the validation set here. Images are normalized as
    ``normalization`` says; by default as a layer in the weights does, or as their statistics suggest.
    """
    if normalization is not None:
        recipe = recipe.replace(normalization=normalization)
    check_recipe(recipe, device)
    task = make_task(recipe, root, device)
    model = task.model().to(task.device)
    with explained(recipe.data):
        loaded = load_weights(model, path, key=key)
    notes = [str(loaded)]
    if points := vars(recipe).get("points"):
        notes.append(f"clouds have {points:,} points; pass points=2048 for weights that were trained on so many")
    if normalization is None and loaded.normalization:
        task = make_task(recipe.replace(normalization=str(loaded.normalization)), root, device)
    elif normalization is None and recipe.domain == "images":
        name, error = find_normalization(model, task)
        notes.append(f"normalization {name}: of those known it fits the first batch norm best (error {error:.4f})")
        task = make_task(recipe.replace(normalization=name), root, device)
    return notes, task.evaluate(model, "test")


@contextmanager
def explained(data: str) -> Iterator[None]:
    """Around loading: where weights do not fit, their advice is about other data, which decide the model's sizes."""
    try:
        yield
    except WeightsError as error:
        sizes = told_sizes(error.build)
        problem = f"{error.problem}; evaluate them on data with {sizes}, not on {data}" if sizes else error.problem
        build = {name: value for name, value in error.build.items() if name not in SIZES}
        raise WeightsError(problem, build) from error


@torch.inference_mode()
def find_normalization(model: nn.Module, task: Any) -> tuple[str, float]:
    """Return the name of the normalization that a network was trained with, and how far it is from a perfect fit.

    The first batch norm knows mean and variance of its input in training. Both are computed for images of the task
    under every known normalization, without and with the usual random crops, whose padding darkens them or not.

    Raises:
        UsageError: There is no batch norm that was trained, or no normalization explains it, or two do.
    """
    norms: Any = (m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None)
    norm = next(norms, None)
    if norm is None or not norm.running_mean.any():
        raise UsageError("the weights do not tell how images were normalized; name it with --normalization")
    loader = task.data.loader("train", IMAGES, seed=0, normalization=PLAIN, channels_last=False)  # in random order
    images, _ = next(iter(loader.batches()))
    errors = {}
    for name in ("set", *NORMALIZATIONS):
        mean, std = parse_normalization(name) or (task.data.mean, task.data.std)
        errors[name] = min(_error(model.eval(), norm, x) for x in _crops(images, mean, std))
    best, second = sorted(errors, key=errors.__getitem__)[:2]
    if errors[best] > LARGEST_ERROR or errors[second] < LEAST_RATIO * errors[best]:
        raise UsageError(
            f"the weights do not tell how images were normalized: {best} (error {errors[best]:.3f}) or {second} "
            f"({errors[second]:.3f}); name it with --normalization, or give means/deviations as 0.5,0.5,0.5/0.2,0.2,0.2"
        )
    return best, errors[best]


def _crops(images: Tensor, mean: Any, std: Any) -> Iterator[Tensor]:
    """The images normalized; the same cropped from images padded with black, or with the mean."""
    center, scale = (torch.tensor(values, device=images.device).view(-1, 1, 1) for values in (mean, std))
    yield (images - center) / scale
    if images.shape[-1] > 64:
        return
    for padded in (F.pad(images, (PADDING,) * 4), F.pad(images - center, (PADDING,) * 4) + center):
        moves = torch.randint(2 * PADDING + 1, (len(images), 2), generator=torch.Generator().manual_seed(0)).tolist()
        height, width = images.shape[2:]
        crops = [image[:, y : y + height, x : x + width] for image, (y, x) in zip(padded, moves, strict=True)]
        yield (torch.stack(crops) - center) / scale


def _error(model: nn.Module, norm: Any, x: Tensor) -> float:
    """How far the statistics of the batch norm's input are from those in it: a mean over the channels."""
    seen: list[Tensor] = []
    handle = norm.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    try:
        model(x)
    finally:
        handle.remove()
    values = seen[0].transpose(0, 1).flatten(1).double()
    mean, variance = norm.running_mean.double(), norm.running_var.double().clamp_min(1e-12)
    shift = (values.mean(1) - mean).square() / variance
    scale = (values.var(1).clamp_min(1e-12) / variance).log().square() / 4
    return float((shift + scale).mean())

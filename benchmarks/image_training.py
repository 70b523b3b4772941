"""Training steps of image networks a second, beside the usual loop, with the part of each choice.

    python -m benchmarks.image_training --out benchmarks/image_training.csv

Batches of 128, CIFAR-sized, SGD with momentum. Each line has what the line above has and one thing more:

    usual          torchvision's data set and PIL transforms in a DataLoader with two workers; NCHW, fp32, SGD
    resident       batches made on the device from bytes in memory
    channels-last  memory format of images and convolutions
    fused          one kernel for the optimizer: this is `comhe train images`
    bf16           autocast (`--precision bf16`); only where the processor has bf16 units

`convolutions` is no step but its bound: every convolution of the network alone, forward and backward, in bf16.

Variants take turns of a few steps within each round of one process. Medians over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from comhe.datasets import Augmentation
from comhe.zoo import create_model

from .image_pipeline import BATCH, dataloader, resident
from .output import save

STEPS = 5
VARIANTS = ("usual", "resident", "channels-last", "fused", "bf16", "convolutions")


def convolutions(model_name: str) -> Callable[[], None]:
    """The convolutions of one step and their gradients, on random numbers in bf16 and channels-last; nothing else."""
    model = create_model(model_name, num_classes=100)
    jobs: list[tuple[nn.Conv2d, Tensor, Tensor]] = []

    def keep(module: nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
        x, slope = (torch.randn_like(t, dtype=torch.bfloat16) for t in (inputs[0], output))
        jobs.append((module, x.requires_grad_(len(jobs) > 0), slope))  # images need no gradient

    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    hooks = [layer.register_forward_hook(keep) for layer in layers]
    with torch.no_grad():
        model.to(memory_format=torch.channels_last)(torch.randn(BATCH, 3, 32, 32).to(memory_format=torch.channels_last))
    for hook in hooks:
        hook.remove()
    model.to(torch.bfloat16)

    def step() -> None:
        for layer, x, slope in jobs:
            layer.weight.grad = x.grad = None
            layer(x).backward(slope)

    return step


def variant(model_name: str, what: str, pixels: np.ndarray) -> Callable[[], None]:
    """A function that takes one step."""
    if what == "convolutions":
        return convolutions(model_name)
    level = VARIANTS.index(what)
    torch.manual_seed(0)
    model = create_model(model_name, num_classes=100)
    channels_last = level >= VARIANTS.index("channels-last")
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    fused = True if level >= VARIANTS.index("fused") else None
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5, momentum=0.9, nesterov=True, fused=fused)

    def endless() -> Iterator:
        epoch = 0
        images = resident(pixels)
        loader = dataloader(pixels, 2) if what == "usual" else None
        while True:
            options = {"channels_last": channels_last, "drop_last": True}
            yield from loader or images.batches("train", BATCH, 0, epoch, Augmentation(), **options)
            epoch += 1

    batches = endless()

    def step() -> None:
        x, labels = next(batches)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=what == "bf16"):
            loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()

    return step


def measure(models: list[str], variants: list[str], rounds: int) -> list[dict]:
    pixels = np.random.default_rng(0).integers(0, 256, (100 * BATCH, 32, 32, 3), dtype=np.uint8)
    rows = []
    for model in models:
        steps = {what: variant(model, what, pixels) for what in variants}
        times: dict[str, list[float]] = {what: [] for what in variants}
        for turn in range(rounds + 1):
            for what, step in steps.items():
                step()  # back in the caches, and the loader's workers at work again
                start = time.perf_counter()
                for _ in range(STEPS):
                    step()
                if turn:  # the first round warms up
                    times[what].append((time.perf_counter() - start) / STEPS)
        for i, what in enumerate(variants):
            before = times[variants[max(0, i - 1)]]
            row = {
                "model": model,
                "what": what,
                "median_ms": 1e3 * statistics.median(times[what]),
                "images_per_s": BATCH / statistics.median(times[what]),
                "times_faster_than_usual": _ratio(times[variants[0]], times[what]),
                "times_faster_than_line_above": _ratio(before, times[what]),
                "rounds": rounds,
            }
            rows.append(row)
            print(f"{model:9} {what:14} {row['median_ms']:8.1f} ms  {row['times_faster_than_usual']:.2f} times usual")
    return rows


def _ratio(a: list[float], b: list[float]) -> float:
    """Median over the rounds of a / b."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["cnn9", "resnet32"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="CSV file")
    flags = parser.parse_args()
    save(flags.out, measure(flags.models, flags.variants, flags.rounds))


if __name__ == "__main__":
    main()

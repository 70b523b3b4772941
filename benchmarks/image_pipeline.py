"""Training batches of CIFAR-sized images per second, beside torchvision's data set in a DataLoader.

    python -m benchmarks.image_pipeline --out benchmarks/image_pipeline.csv

Batches of 128, shuffled, padded by 4, cropped, flipped, normalized. Pixels are random, since no time depends on them.

    comhe        Images.batches, float32 and channels-last
    torchvision  torchvision.datasets.CIFAR100, RandomCrop(32, padding=4), RandomHorizontalFlip, ToTensor, Normalize

Everything takes turns within each round of one process; workers live on between rounds, so starting them costs nothing
here. Medians over the rounds, and medians of the ratios, within rounds, to the faster of the DataLoaders.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch.utils.data import DataLoader
from torchvision import transforms

from comhe.datasets import Augmentation, Images
from comhe.datasets.images.sets import Split

from .output import save

BATCH = 128
MEAN, STD = (0.507, 0.487, 0.441), (0.267, 0.256, 0.276)


def resident(pixels: np.ndarray) -> Images:
    part = Split(torch.from_numpy(pixels), torch.zeros(len(pixels), dtype=torch.int64))
    return Images("random", part, part, part, ("a",), MEAN, STD, source="", augmentation=Augmentation())


def dataloader(pixels: np.ndarray, workers: int) -> DataLoader:
    data = torchvision.datasets.CIFAR100.__new__(torchvision.datasets.CIFAR100)  # without its files
    data.data, data.targets, data.target_transform = pixels, [0] * len(pixels), None
    data.transform = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return DataLoader(data, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)


def seconds(epoch: Callable[[int], Iterable], epochs: int) -> float:
    start = time.perf_counter()
    for i in range(epochs):
        for _ in epoch(i):
            pass
    return (time.perf_counter() - start) / epochs


def measure(count: int, rounds: int) -> list[dict]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    images, default = resident(pixels), torch.get_num_threads()
    loaders = {workers: dataloader(pixels, workers) for workers in (0, 2)}
    cases: dict[tuple[str, int, int], tuple[Callable[[int], Iterable], int]] = {
        ("torchvision", default, workers): (lambda i, loader=loader: loader, 1) for workers, loader in loaders.items()
    }
    for what, augmentation in {
        "comhe": Augmentation(),
        "comhe, symmetric": Augmentation(mode="symmetric"),
        "comhe, cutout 8": Augmentation(cutout=8),
        "comhe, no augmentation": None,
    }.items():
        for threads in sorted({1, default}):
            # Several epochs, so that a measurement does not end before the machine's moods even out.
            cases[what, threads, 0] = (lambda i, a=augmentation: images.batches("train", BATCH, 0, i, a), 10)
    times: dict[tuple[str, int, int], list[float]] = {case: [] for case in cases}
    for turn in range(rounds + 1):
        for case, (epoch, epochs) in cases.items():
            torch.set_num_threads(case[1])
            spent = seconds(epoch, epochs)
            if turn:  # the first one warms up
                times[case].append(spent)
    torch.set_num_threads(default)
    usual = [min(spent) for spent in zip(*(times["torchvision", default, w] for w in loaders), strict=True)]
    rows = []
    for (what, threads, workers), spent in times.items():
        rates = [count / s for s in spent]
        row = {
            "what": what,
            "threads": threads,
            "workers": workers,
            "median_images_per_s": statistics.median(rates),
            "min_images_per_s": min(rates),
            "max_images_per_s": max(rates),
            "times_faster": statistics.median(u / s for u, s in zip(usual, spent, strict=True)),
            "rounds": rounds,
        }
        rows.append(row)
        line = f"{what:23} {threads} threads {workers} workers {row['median_images_per_s']:9.0f} images/s"
        print(f"{line} {row['times_faster']:6.1f} times torchvision's faster")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=12_800)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="CSV file")
    flags = parser.parse_args()
    rows = measure(flags.images, flags.rounds)
    save(flags.out, rows)


if __name__ == "__main__":
    main()

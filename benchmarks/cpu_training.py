"""Where an epoch of ``comhe train images|points`` with ``rp-comhe`` spends its time on the CPU.

    python -m benchmarks.cpu_training --data-root DATA --out benchmarks/cpu_training.csv

Some steps of the recipe ``short`` and some batches of its evaluation are timed, each part with the clock, since on a CPU
nothing happens later; seconds are those of a whole epoch in proportion. The parts:

    data        augmentation and the batch, from data in memory
    forward     the network and its loss
    backward    of that
    penalty     random projections, energies and their gradient
    optimizer   its step
    step, rest  clipping, sums of the log, and all that the loop does between
    evaluation  of the validation set, after the epoch
    logging     each layer's energies, and keeping the best weights

``other_threads`` measures with one thread what by default has all.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from comhe.train import get_recipe, make_task
from comhe.train.engine.loop import deterministic
from comhe.train.engine.training import Training
from comhe.train.hardware import limited_threads

from .output import Table

NETWORKS = {"cnn9": "cifar100", "resnet20": "cifar100", "pointnet": "modelnet40", "pointnet2_ssg": "modelnet40"}
BATCHES = 2  # of the evaluation


class Clock:
    """Seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def timed(self, part: str, call: Callable) -> Callable:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            result = call(*arguments, **options)
            self.seconds[part].append(time.perf_counter() - start)
            return result

        return wrapper


def profile(model: str, data: str, steps: int, regularizer: str) -> dict[str, float]:
    """The seconds of an epoch by part."""
    task = make_task(get_recipe("short", model, data, regularizer), device="cpu")
    clock, backward = Clock(), torch.Tensor.backward
    with deterministic(task.device), limited_threads(task.threads):
        training = Training(task, None)
        step, regularizer = training.step, training.regularizer
        training.begin_epoch(0)
        inputs = list(islice(task.inputs(0), steps + 1))
        step(inputs[0], 1e-3)  # warms up
        task.collate, task.loss = clock.timed("data", task.collate), clock.timed("forward", task.loss)
        regularizer.value_and_grad = clock.timed("penalty", regularizer.value_and_grad)
        regularizer.draw = clock.timed("penalty, draws", regularizer.draw)
        step.optimizer.step = clock.timed("optimizer", step.optimizer.step)
        torch.Tensor.backward = clock.timed("backward", backward)
        try:
            for each in inputs[1:]:
                clock.timed("step", step)(each, 1e-3)
        finally:
            torch.Tensor.backward = backward
        batches, count = task.batches, len(task.data.get_split("val"))
        task.batches = lambda *arguments, **options: islice(batches(*arguments, **options), BATCHES)
        task.evaluate(training.eval_model, "val")
        validation = clock.timed("evaluation", task.evaluate)(training.eval_model, "val")
        clock.timed("logging", training.log.add_epoch)({"epoch": 0})
        clock.timed("logging", training.select_best)(0, validation)
    found = {part: task.steps * statistics.median(taken) for part, taken in clock.seconds.items()}
    found["penalty"] += found.pop("penalty, draws")
    found["evaluation"] *= count / (BATCHES * task.evaluation_batch) / task.steps
    found["logging"] = sum(clock.seconds["logging"])
    whole = found.pop("step")
    found["step, rest"] = whole - sum(found[part] for part in PARTS[:5])
    return {part: found[part] for part in PARTS}


PARTS = ("data", "forward", "backward", "penalty", "optimizer", "step, rest", "evaluation", "logging")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--data-root", help="folder of the data sets; by default $COMHE_DATA")
    parser.add_argument("--out", type=Path, help="CSV file")
    flags = parser.parse_args()
    if flags.data_root:
        os.environ["COMHE_DATA"] = flags.data_root
    table = Table(flags.out)
    for model in flags.networks:
        seconds = profile(model, NETWORKS[model], flags.steps, "rp-comhe")
        for part, value in seconds.items():
            share = 100 * value / sum(seconds.values())
            row = {"network": model, "part": part, "epoch_s": value, "percent": share, "load": os.getloadavg()[0]}
            table.add(row)
            print(f"{model:14} {part:12} {value:9.2f} s {share:6.1f} %", flush=True)


if __name__ == "__main__":
    main()

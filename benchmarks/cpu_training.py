"""Where an epoch of ``comhe train images|points`` with ``rp-comhe`` spends its time on the CPU.

    python -m benchmarks.cpu_training --data-root DATA --out benchmarks/cpu_training.csv

Some steps of the recipe ``short`` and some batches of its evaluation are measured, each part by itself, since on a CPU
nothing is done later. ``seconds`` are those of a whole epoch in proportion, ``cpu_s`` those that the cores were
busy for it, which neighbors change less; ``percent`` is a share of the latter. The parts:

    data        augmentation and the batch, from data in memory
    forward     the network and its loss
    backward    of that
    penalty     random projections, energies and their gradient
    optimizer   its step
    rest        of the step: gradients added, clipping, sums of the log
    evaluation  of the validation set, after the epoch
    logging     each layer's energies, and keeping the best weights

Then a step without a penalty in other ways that PyTorch has, in turn: as it is, compiled by ``--compile`` (Inductor's
C++ for what lies between products and convolutions), and with denormal numbers flushed to zero; ``percent`` is of the
first.

Then, on one thread, energy and gradient of PointNet's widest layer under 20 projections, by the size of the blocks that
its cosines are computed in and the least side of one; the first is what is built in.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any

from comhe.train import get_recipe, make_task
from comhe.train.engine.loop import deterministic
from comhe.train.engine.training import Training
from comhe.train.hardware import limited_threads

from .output import Table

NETWORKS = {"cnn9": "cifar100", "resnet20": "cifar100", "pointnet": "modelnet40", "pointnet2_ssg": "modelnet40"}
PARTS = ("data", "forward", "backward", "penalty", "optimizer", "rest of the step", "evaluation", "logging")
BATCHES = 2  # of the evaluation


class Clock:
    """Wall and processor seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def timed(self, part: str, call: Callable) -> Callable:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter(), time.process_time()
            result = call(*arguments, **options)
            self.seconds[part].append((time.perf_counter() - start[0], time.process_time() - start[1]))
            return result

        return wrapper

    def median(self, part: str, which: int) -> float:
        return statistics.median(pair[which] for pair in self.seconds[part])


def profile(model: str, data: str, steps: int) -> dict[str, tuple[float, float]]:
    """The wall and processor seconds of an epoch by part."""
    import torch  # comhe.train comes first, as for the command: it says how waiting threads wait

    task = make_task(get_recipe("short", model, data, "rp-comhe"), device="cpu")
    clock, backward = Clock(), torch.Tensor.backward
    with deterministic(task.device), limited_threads(task.threads):
        training = Training(task, None)
        step, regularizer = training.step, training.regularizer
        training.begin_epoch(0)
        inputs = list(islice(task.inputs(0), steps + 1))
        step(inputs[0], 1e-3)  # warms up
        task.collate, task.loss = clock.timed("data", task.collate), clock.timed("forward", task.loss)
        regularizer.value_and_grad = clock.timed("penalty", regularizer.value_and_grad)
        regularizer.draw = clock.timed("draws", regularizer.draw)
        step.optimizer.step = clock.timed("optimizer", step.optimizer.step)
        torch.Tensor.backward = clock.timed("backward", backward)
        try:
            for each in inputs[1:]:
                clock.timed("step", step)(each, 1e-3)
        finally:
            torch.Tensor.backward = backward
        batches = task.batches
        task.batches = lambda *arguments, **options: islice(batches(*arguments, **options), BATCHES)
        task.evaluate(training.eval_model, "val")
        validation = clock.timed("evaluation", task.evaluate)(training.eval_model, "val")
        clock.timed("energies", training.log.add_epoch)({"epoch": 0})
        clock.timed("best", training.select_best)(0, validation)
    evaluations = len(task.data.get_split("val")) / (BATCHES * task.evaluation_batch)
    found = []
    for which in (0, 1):
        parts = {part: task.steps * clock.median(part, which) for part in ("step", *PARTS[:3], "optimizer")}
        parts["penalty"] = task.steps * (clock.median("penalty", which) + clock.median("draws", which))
        whole = parts.pop("step")
        parts["rest of the step"] = whole - sum(parts.values())
        parts["evaluation"] = evaluations * clock.median("evaluation", which)
        parts["logging"] = clock.median("energies", which) + clock.median("best", which)
        found.append(parts)
    return {part: (found[0][part], found[1][part]) for part in PARTS}


def ways(model: str, data: str, rounds: int) -> Iterator[dict[str, Any]]:
    """Yield the median seconds of a step without a penalty, by the way it is computed; the ways take turns."""
    import torch

    clock, taking = Clock(), {}
    for way in ("as it is", "compiled", "denormals flushed"):
        recipe = get_recipe("short", model, data, "none").replace(compile=way == "compiled")
        task = make_task(recipe, device="cpu")
        with deterministic(task.device), limited_threads(task.threads):
            training = Training(task, None)
            training.begin_epoch(0)
            inputs = list(islice(task.inputs(0), rounds + 1))
            training.step(inputs[0], 1e-3)  # warms up, and compiles
            taking[way] = training, inputs[1:]
    for i in range(rounds):
        for way, (training, inputs) in taking.items():
            torch.set_flush_denormal(way == "denormals flushed")
            with deterministic(training.task.device), limited_threads(training.task.threads):
                clock.timed(way, training.step)(inputs[i], 1e-3)
    torch.set_flush_denormal(False)
    first = clock.median("as it is", 0)
    for way in taking:
        seconds, busy = (clock.median(way, which) for which in (0, 1))
        share = 100 * seconds / first
        yield {"network": model, "part": f"a step, {way}", "seconds": seconds, "cpu_s": busy, "percent": share}


def blocks(rounds: int = 4) -> Iterator[dict[str, Any]]:
    """Yield the processor seconds of 20 sets of 1,024 neurons of 40 numbers by blocks, the least of the rounds."""
    import torch

    from comhe.regularizers.energies import energy, sums
    from comhe.regularizers.energies.potential import Potential
    from comhe.regularizers.energies.terms import Terms

    terms, built_in = Terms(Potential(2, False, True), min_norm=0.01), (sums.BLOCK, sums.SIDE)
    w = torch.randn(20, 1024, 40, generator=torch.Generator().manual_seed(0))
    clock, choices = Clock(), [built_in, *product((1 << 18, 1 << 17, 1 << 16), (128, 256))]
    with limited_threads(1):
        for _ in range(rounds):
            for sums.BLOCK, energy.SIDE in choices:
                clock.timed(f"{sums.BLOCK}, {energy.SIDE}", energy.neuron_sums)(w, terms, True)
    sums.BLOCK, energy.SIDE = built_in
    for choice, pairs in clock.seconds.items():
        seconds, busy = map(min, zip(*pairs, strict=True))
        yield {"network": "pointnet", "part": f"blocks of {choice}", "seconds": seconds, "cpu_s": busy, "percent": ""}


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
        parts = profile(model, NETWORKS[model], flags.steps)
        total = sum(busy for _, busy in parts.values())
        for part, (seconds, busy) in parts.items():
            row = {"network": model, "part": part, "seconds": seconds, "cpu_s": busy, "percent": 100 * busy / total}
            table.add(row | {"load": os.getloadavg()[0]})
            print(f"{model:14} {part:16} {seconds:9.1f} s {busy:9.1f} CPU s {100 * busy / total:6.1f} %", flush=True)
    for model in flags.networks:
        for row in ways(model, NETWORKS[model], flags.steps):
            table.add(row | {"load": os.getloadavg()[0]})
            print(f"{model:14} {row['part']:28} {row['seconds']:9.3f} s {row['percent']:6.1f} %", flush=True)
    for row in blocks():
        table.add(row | {"load": os.getloadavg()[0]})
        print(f"{row['part']:30} {1e3 * row['cpu_s']:9.1f} CPU ms")


if __name__ == "__main__":
    main()

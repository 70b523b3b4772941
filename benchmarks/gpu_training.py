"""Training steps on a GPU as `comhe train` takes them: captured, with the penalty beside the network."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from comhe.datasets import Augmentation, Images
from comhe.datasets.images.sets import Split
from comhe.train.engine.capture import SideStream, make_recorder
from comhe.train.engine.loop import fit
from comhe.train.engine.step import Step
from comhe.train.graphs import GraphTask
from comhe.train.images import ImageRecipe, ImageTask
from comhe.train.points import PointTask
from comhe.train.recipe import get_recipe
from comhe.train.runs.run import Run
from comhe.train.task import Task

from .gpu_points import _milliseconds as milliseconds
from .gpu_points import captured

Rows = Iterator[dict[str, Any]]
STEPS = 20  # timed at once, as the loop takes them: one after the other, without waiting
PAPER_STEPS = 75_000


def random_images(recipe: ImageRecipe, device: torch.device, size: int, counts: tuple[int, int, int]) -> ImageTask:
    """The task of a recipe on images of random pixels of any size, on the device."""

    def load(name: str, root: str | None) -> Images:
        draw = torch.Generator().manual_seed(0)
        splits = {
            name: Split(
                torch.randint(256, (count, size, size, 3), dtype=torch.uint8, generator=draw), torch.arange(count) % 100
            )
            for name, count in zip(("train", "val", "test"), counts, strict=True)
        }
        classes, numbers = tuple(map(str, range(100))), {"mean": (0.5,) * 3, "std": (0.3,) * 3}
        return Images("random", **splits, classes=classes, **numbers, source="drawn", augmentation=Augmentation())

    return type("RandomImages", (ImageTask,), {"load": staticmethod(load)})(recipe, device=str(device))


def cnn9(regularizer: str, device: torch.device, tiny: bool, **penalty: Any) -> Task:
    sizes = {"precision": "fp32" if tiny else "bf16", "batch_size": 4 if tiny else 128}
    recipe = get_recipe("paper", "cnn9", "random", regularizer, **sizes, **penalty)
    return random_images(recipe, device, 32, (64, 4, 4) if tiny else (12_800, 100, 100))


def resnet50(regularizer: str, device: torch.device, tiny: bool, **penalty: Any) -> Task:
    sizes = {"precision": "fp32" if tiny else "bf16", "batch_size": 2 if tiny else 64}
    recipe = get_recipe("modern", "resnet50", "random", regularizer, **sizes, **penalty)
    return random_images(recipe, device, 32 if tiny else 224, (8, 2, 2) if tiny else (1_280, 100, 100))


def pointnet2_ssg(regularizer: str, device: torch.device, tiny: bool, **penalty: Any) -> Task:
    sizes = {"batch_size": 2, "points": 40} if tiny else {"batch_size": 32}
    return PointTask(
        get_recipe("paper", "pointnet2_ssg", "solids", regularizer, **sizes, **penalty), device=str(device)
    )


def gcn512(regularizer: str, device: torch.device, tiny: bool, **penalty: Any) -> Task:
    recipe = get_recipe("kipf", "gcn", "citations", regularizer, hidden_channels=512, **penalty)
    return GraphTask(recipe, device=str(device))


NETWORKS = {"cnn9": cnn9, "resnet50": resnet50, "pointnet2_ssg": pointnet2_ssg, "gcn512": gcn512}
PENALTIES: dict[str, tuple[str, dict[str, Any]]] = {
    "hs-mhe": ("hs-mhe", {}),
    "rp-comhe": ("rp-comhe", {"regularizer_options": {"span": True}}),
    "rp-comhe, ambient": ("rp-comhe", {"regularizer_options": {"span": False}}),
}


def steps(task: Task, beside: bool = True, captured: bool = True) -> Callable[[], None]:
    """A function that takes the next step of the task."""
    torch.manual_seed(0)
    model = task.model().to(task.device)
    recorder = make_recorder(task.device, task.generators) if captured else None
    step = Step(task, model.train(), task.regularizer(model), task.optimizer(model), recorder=recorder)
    if not beside:
        step.side_stream = SideStream(torch.device("cpu"))

    def endless() -> Iterator[tuple]:
        epoch = 0
        while True:
            yield from task.inputs(epoch)
            epoch += 1

    inputs = endless()
    return lambda: step(next(inputs), 1e-4)


def penalty(
    device: torch.device,
    rounds: int,
    tiny: bool,
    networks: Iterable[str] = tuple(NETWORKS),
    penalties: Iterable[str] = tuple(PENALTIES),
) -> Rows:
    """Milliseconds of a step, and what share of the step without a penalty it adds."""
    for name in networks:
        make = NETWORKS[name]
        for regularizer in penalties:
            kind, options = PENALTIES[regularizer]
            calls = {
                "beside the network": steps(make(kind, device, tiny, **options)),
                "before it": steps(make(kind, device, tiny, **options), beside=False),
                "as written": steps(make(kind, device, tiny, **options), captured=False),
            }
            calls["without penalty"] = steps(make("none", device, tiny))
            medians = _medians(calls, device, rounds, tiny)
            calls.clear()
            gc.collect()  # a step and its graph refer to each other: the memory of four of them
            base = medians.pop("without penalty")
            for how, value in medians.items():
                share = 100 * (value - base) / base if how != "as written" else ""
                yield {
                    "network": name,
                    "regularizer": regularizer,
                    "penalty": how,
                    "step_ms": value,
                    "without_penalty_ms": base,
                    "percent_of_step": share,
                    "rounds": rounds,
                }


def _medians(calls: dict[str, Callable], device: torch.device, rounds: int, tiny: bool) -> dict[str, float]:
    count = 1 if tiny else STEPS
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(1 if tiny else 5):
            call()

    def several(call: Callable) -> Callable[[], None]:
        return lambda: [call() for _ in range(count)] and None

    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(milliseconds(several(call), device) / count)
    return {name: statistics.median(values) for name, values in times.items()}


def alone(
    device: torch.device,
    rounds: int,
    tiny: bool,
    networks: Iterable[str] = tuple(NETWORKS),
    penalties: Iterable[str] = tuple(PENALTIES),
) -> Rows:
    """Milliseconds of a penalty and its gradient without a network, captured, and the number of launches."""
    count = 1 if tiny else STEPS
    for name, regularizer in product(networks, penalties):
        kind, options = PENALTIES[regularizer]
        task = NETWORKS[name](kind, device, tiny, **options)
        torch.manual_seed(0)
        model = task.model().to(device)
        penalty = task.regularizer(model)
        penalty.capturable = device.type == "cuda"
        parameters, draws = [p for p in model.parameters() if p.requires_grad], penalty.draw()
        found: list[Any] = []  # lives as long as the graph

        def call(penalty=penalty, parameters=parameters, draws=draws, found=found) -> None:
            found[:] = [penalty.value_and_grad(parameters, draws)]

        timed = captured(call, device) if device.type == "cuda" else call

        def several(timed=timed) -> list:
            return [timed() for _ in range(count)]

        for _ in range(1 if tiny else 5):
            timed()
        times = [milliseconds(several, device) / count for _ in range(rounds)]
        with torch.profiler.profile() as profiler:
            timed()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        launches = [e for e in profiler.events() if e.device_type == torch.autograd.DeviceType.CUDA]
        yield {
            "network": name,
            "regularizer": regularizer,
            "alone_ms": statistics.median(times),
            "launches": len(launches),
            "launched_ms": sum(e.time_range.elapsed_us() for e in launches) / 1e3,
        }


def profile(device: torch.device, tiny: bool, most: int = 40) -> Rows:
    """The operations (on a GPU: kernels) that take most of a captured step of CNN-9, without a penalty and with each.

    ``once_us`` is the mean time of one of them: those of a penalty run beside the network's.
    """
    for regularizer in ("none", "hs-mhe", "rp-comhe"):
        step, count = steps(cnn9(regularizer, device, tiny)), 1 if tiny else STEPS
        for _ in range(1 if tiny else 5):
            step()
        on_gpu = device.type == "cuda"
        with torch.profiler.profile() as profiler:  # of whatever there is
            for _ in range(count):
                step()
            if on_gpu:
                torch.cuda.synchronize(device)
        del step
        gc.collect()
        events = {
            e.key: (e.count, e.self_device_time_total if on_gpu else e.self_cpu_time_total)
            for e in profiler.key_averages()
        }
        total = sum(spent for _, spent in events.values())
        for name, (calls, spent) in sorted(events.items(), key=lambda item: -item[1][1])[:most]:
            row = {"regularizer": regularizer, "what": name[:120], "calls_a_step": calls / count}
            row |= {"once_us": spent / calls, "ms_a_step": spent / count / 1e3}
            yield row | {"percent": 100 * spent / total if total else 0.0}


def training(device: torch.device, tiny: bool, full: bool = False) -> Rows:
    """Seconds of CNN-9's 75,000 steps with RP-CoMHE by the paper's recipe, validation and diagnostics included."""
    for precision in ("auto", "fp32") if tiny else ("bf16", "fp32"):
        recipe = get_recipe("paper", "resnet8" if tiny else "cnn9", "random", "rp-comhe", precision=precision)
        if not full:
            recipe = recipe.replace(epochs=2 if tiny else 6)
        if tiny:
            recipe = recipe.replace(batch_size=4)
        task = random_images(recipe, device, 32, (8, 4, 4) if tiny else (45_000, 5_000, 10_000))
        ends = []
        with TemporaryDirectory() as folder:
            began = time.perf_counter()
            result = fit(task, Run(Path(folder)), lambda row, epochs, ends=ends: ends.append(time.perf_counter()))
        epoch = statistics.median(b - a for a, b in pairwise(ends))
        yield {
            "what": "in full" if full else "projected from an epoch",
            "precision": precision,
            "seconds": ends[-1] - began if full else epoch / task.steps * PAPER_STEPS,
            "epoch_s": epoch,
            "step_ms": 1e3 * result["step_seconds"],
            "first_epoch_s": ends[0] - began,
            "epochs": recipe.epochs,
        }

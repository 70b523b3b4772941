"""PointNet++ on a GPU, its operations alone and its training step, beside the port of :mod:`.points` on the same GPU.

    for row in rows("cuda"): ...

`comhe` is called as users call it; `comhe captured` is a CUDA graph, whose replay leaves Python out. The port cannot be
captured: its sampling writes through boolean masks and waits for the device in every turn of its loop. So only `comhe`
is compared with it.

Device events around every call, after warm-up, variants taking turns; medians over the rounds, ratios of medians.
Before an operation is timed its result is compared with that of PyTorch's operations on the CPU: `same_as_cpu` is the
share of clouds (sampling) or balls that agree in every index.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from comhe.zoo import create_model
from comhe.zoo import points as zoo

from .points import BATCH, CLASSES, POINTS, PortedPointNet2, clouds, ported_grouping, ported_sampling

Call = Callable[[], object]
Rows = Iterator[dict[str, object]]
REPEATS = 20  # calls of an operation in its graph, so that a replay is long beside its start


@dataclass(frozen=True)
class Setting:
    """Where and on how much is measured."""

    device: torch.device
    batch: int = BATCH
    points: int = POINTS
    rounds: int = 30


def rows(device: torch.device | str, **sizes: int) -> Rows:
    """All of it, as rows of one table; sizes: fields of :class:`Setting`."""
    setting = Setting(torch.device(device), **sizes)
    for part in (farthest_point_sampling, query_and_group, pointnet2_step):
        yield from part(setting)


def farthest_point_sampling(setting: Setting) -> Rows:
    """512 points of each cloud."""
    torch.manual_seed(0)
    x = clouds(setting.batch, setting.points)
    yield from _operation(
        f"512 farthest of {setting.points}",
        lambda x: zoo.farthest_point_sampling(x, 512),
        lambda x: ported_sampling(x, 512),
        (x,),
        setting,
    )


def query_and_group(setting: Setting) -> Rows:
    """The balls of PointNet++, as coordinates about their centers: of 512 of the points, and of 128 of these."""
    torch.manual_seed(0)
    x = clouds(setting.batch, setting.points)
    first = zoo.group(x, zoo.farthest_point_sampling(x, 512))
    second = first[:, :128].contiguous()
    for radius, count, points, centers in ((0.2, 32, x, first), (0.4, 64, first, second)):
        yield from _operation(
            f"{count} within {radius} of {centers.shape[1]} centers",
            lambda *clouds, ball=(radius, count): zoo.query_and_group(*clouds, *ball)[1].flatten(2),
            lambda *clouds, ball=(radius, count): ported_grouping(*ball, *clouds),
            (points, centers),
            setting,
        )


def pointnet2_step(setting: Setting) -> Rows:
    """A training step of ``pointnet2_ssg`` with Adam on clouds on the device, in fp32 and with TF32 products."""
    for precision in ("fp32", "tf32"):
        with _tf32(precision == "tf32"):
            calls = {"comhe": training_step(setting), "port": training_step(setting, ported=True)}
            if setting.device.type == "cuda":
                calls["comhe captured"] = captured(training_step(setting), setting.device)
            yield from _compared("step of pointnet2_ssg", calls, setting, precision=precision)


def training_step(setting: Setting, ported: bool = False) -> Call:
    """One step of a network and its optimizer, always on the same clouds."""
    torch.manual_seed(0)
    x = clouds(setting.batch, setting.points).to(setting.device)
    y = (torch.arange(setting.batch) % CLASSES).to(setting.device)
    model = (PortedPointNet2() if ported else create_model("pointnet2_ssg", num_classes=CLASSES)).to(setting.device)
    own = {} if ported or setting.device.type != "cuda" else {"fused": True, "capturable": True}
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, **own)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def captured(call: Call, device: torch.device, repeats: int = 1) -> Call:
    """The work of so many calls as one CUDA graph, after calls that compile, load and allocate."""
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for _ in range(repeats):
                call()

    def replay(held: Call = call) -> None:  # what the graph reads lives as long as it does
        graph.replay()

    return replay


def _operation(
    what: str, ours: Callable[..., Tensor], port: Callable[..., Tensor], tensors: tuple[Tensor, ...], setting: Setting
) -> Rows:
    there = tuple(t.to(setting.device) for t in tensors)
    same = ours(*there).cpu().eq(ours(*tensors)).all(-1).float().mean().item()
    calls: dict[str, Call] = {"comhe": lambda: ours(*there), "port": lambda: port(*there)}
    if setting.device.type == "cuda":
        calls["comhe captured"] = captured(calls["comhe"], setting.device, REPEATS)
    yield from _compared(what, calls, setting, REPEATS, same_as_cpu=same)


def _compared(
    what: str, calls: dict[str, Call], setting: Setting, graphed: int = 1, precision: str = "fp32", same_as_cpu="-"
) -> Rows:
    """The calls in turns; ``graphed``: how many of them a captured one does."""
    times: dict[str, list[float]] = {code: [] for code in calls}
    for call in calls.values():
        for _ in range(min(3, setting.rounds)):
            call()
    for _ in range(setting.rounds):
        for code, call in calls.items():
            times[code].append(_milliseconds(call, setting.device) / (graphed if code.endswith("captured") else 1))
    medians = {code: statistics.median(values) for code, values in times.items()}
    for code, median in medians.items():
        yield {
            "what": what,
            "code": code,
            "precision": precision,
            "batch": setting.batch,
            "points": setting.points,
            "median_ms": median,
            "min_ms": min(times[code]),
            "clouds_per_second": 1e3 * setting.batch / median,
            "times_faster_than_port": "-" if code.endswith("captured") else medians["port"] / median,
            "same_as_cpu": "-" if code == "port" else same_as_cpu,
            "rounds": setting.rounds,
        }


def _milliseconds(call: Call, device: torch.device) -> float:
    if device.type != "cuda":
        start = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - start)
    with torch.cuda.device(device):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        call()
        end.record()
        end.synchronize()
    return begin.elapsed_time(end)


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """The same for matrix products, which our layers are made of, and for convolutions, which the port's are."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before

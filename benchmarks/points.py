"""Point networks beside a straightforward port of the usual public PyTorch code.

    python -m benchmarks.points step --out benchmarks/points_step.csv
    python -m benchmarks.points operations --out benchmarks/points_operations.csv
    python -m benchmarks.points memory --out benchmarks/points_memory.csv

The port has 1 x 1 convolutions on (B, C, N) and (B, C, K, M), farthest point sampling in a loop over boolean masks, and
ball queries that sort all indices. Both train on 32 clouds of 1,024 points on the unit sphere, fp32, Adam. What is
compared takes turns within each round of one process; medians over the rounds, and the median of the ratios within
rounds. Memory is the peak resident size of a fresh process over what it held before the step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from comhe.zoo import create_model
from comhe.zoo.points import ball_query, farthest_point_sampling, group

from .output import save

Call = Callable[[], object]
BATCH, POINTS, CLASSES = 32, 1024, 40


class Classifier(nn.Module):
    """The fully connected layers of the ports."""

    def __init__(self, dropout: tuple[float, float]) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(1024, 512), nn.Linear(512, 256), nn.Linear(256, CLASSES)
        self.bn1, self.bn2 = nn.BatchNorm1d(512), nn.BatchNorm1d(256)
        self.drop1, self.drop2 = (nn.Dropout(p) for p in dropout)

    def classify(self, x: Tensor) -> Tensor:
        x = self.drop1(F.relu(self.bn1(self.fc1(x))))
        return self.fc3(self.drop2(F.relu(self.bn2(self.fc2(x)))))


class PortedPointNet(Classifier):
    """PointNet without transforms on (B, 3, N)."""

    def __init__(self) -> None:
        super().__init__((0.0, 0.3))
        widths = (3, 64, 64, 64, 128, 1024)
        self.convs = nn.ModuleList(nn.Conv1d(a, b, 1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for width in widths[1:])

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)))
        return self.classify(torch.max(x, 2)[0])


class PortedAbstraction(nn.Module):
    def __init__(self, centers: int | None, radius: float, count: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.centers, self.radius, self.count = centers, radius, count
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])

    def forward(self, points: Tensor, features: Tensor | None) -> tuple[Tensor | None, Tensor]:
        centers = None
        if self.centers is None:
            x = torch.cat([points, features], -1)[:, None]
        else:
            centers = taken(points, ported_sampling(points, self.centers))
            index, x = ported_grouping(self.radius, self.count, points, centers)
            if features is not None:
                x = torch.cat([x, taken(features, index)], -1)
        x = x.permute(0, 3, 2, 1)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)))
        return centers, torch.max(x, 2)[0].permute(0, 2, 1)


class PortedPointNet2(Classifier):
    """PointNet++ with one scale on (B, N, 3)."""

    def __init__(self) -> None:
        super().__init__((0.5, 0.5))
        self.first = PortedAbstraction(512, 0.2, 32, (3, 64, 64, 128))
        self.second = PortedAbstraction(128, 0.4, 64, (131, 128, 128, 256))
        self.third = PortedAbstraction(None, 0, 0, (259, 256, 512, 1024))

    def forward(self, x: Tensor) -> Tensor:
        points, features = self.first(x, None)
        points, features = self.second(points, features)
        return self.classify(self.third(points, features)[1].reshape(len(x), -1))


def taken(points: Tensor, index: Tensor) -> Tensor:
    batch = torch.arange(len(points), device=points.device).view(-1, *[1] * (index.dim() - 1)).expand_as(index)
    return points[batch, index, :]


def ported_sampling(points: Tensor, count: int) -> Tensor:
    batch, size, _ = points.shape
    chosen = torch.zeros(batch, count, dtype=torch.long, device=points.device)
    distance = torch.ones(batch, size, device=points.device) * 1e10
    farthest = torch.randint(0, size, (batch,), dtype=torch.long, device=points.device)
    rows = torch.arange(batch, device=points.device)
    for i in range(count):
        chosen[:, i] = farthest
        center = points[rows, farthest, :].view(batch, 1, 3)
        new = torch.sum((points - center) ** 2, -1)
        mask = new < distance
        distance[mask] = new[mask]
        farthest = torch.max(distance, -1)[1]
    return chosen


def ported_ball_query(radius: float, count: int, points: Tensor, centers: Tensor) -> Tensor:
    batch, size, _ = points.shape
    distance = -2 * torch.matmul(centers, points.permute(0, 2, 1))
    distance += torch.sum(centers**2, -1)[:, :, None]
    distance += torch.sum(points**2, -1)[:, None]
    index = torch.arange(size, device=points.device).view(1, 1, size).repeat([batch, centers.shape[1], 1])
    index[distance > radius**2] = size
    index = index.sort(dim=-1)[0][:, :, :count]
    first = index[:, :, :1].repeat([1, 1, count])
    mask = index == size
    index[mask] = first[mask]
    return index


def ported_grouping(radius: float, count: int, points: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    index = ported_ball_query(radius, count, points, centers)
    return index, taken(points, index) - centers[:, :, None]


def clouds(batch: int = BATCH, points: int = POINTS) -> Tensor:
    return F.normalize(torch.randn(batch, points, 3), dim=-1)


PORTS = {"pointnet": PortedPointNet, "pointnet2_ssg": PortedPointNet2}


def training_step(name: str, ported: bool) -> Call:
    """One step of a network and its optimizer."""
    torch.manual_seed(0)
    x, y = clouds(), torch.arange(BATCH) % CLASSES
    if ported:
        model = PORTS[name]()
        x = x.transpose(1, 2).contiguous() if name == "pointnet" else x
    else:
        model = create_model(name, num_classes=CLASSES)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def step(rounds: int) -> list[dict]:
    """Milliseconds of a training step, and how many times the port takes."""
    rows = []
    for name in PORTS:
        calls = {"comhe": training_step(name, False), "port": training_step(name, True)}
        rows += _compared(name, calls, rounds if name == "pointnet" else max(3, rounds // 4))
    return rows


def operations(rounds: int) -> list[dict]:
    """Sampling and the two ball queries of PointNet++, each alone."""
    torch.manual_seed(0)
    points = clouds()
    first = group(points, farthest_point_sampling(points, 512))
    second = first[:, :128].contiguous()
    cases = {
        "512 farthest of 1024": (lambda: farthest_point_sampling(points, 512), lambda: ported_sampling(points, 512)),
        "32 within 0.2 of 512 centers": (
            lambda: ball_query(points, first, 0.2, 32),
            lambda: ported_ball_query(0.2, 32, points, first),
        ),
        "64 within 0.4 of 128 centers": (
            lambda: ball_query(first, second, 0.4, 64),
            lambda: ported_ball_query(0.4, 64, first, second),
        ),
    }
    rows = []
    for name, (ours, theirs) in cases.items():
        rows += _compared(name, {"comhe": ours, "port": theirs}, rounds)
    return rows


def _compared(name: str, calls: dict[str, Call], rounds: int) -> list[dict]:
    times: dict[str, list[float]] = {label: [] for label in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for label, call in calls.items():
            start = time.perf_counter()
            call()
            times[label].append(time.perf_counter() - start)
    rows = []
    for label, values in times.items():
        ratio = statistics.median(port / own for port, own in zip(times["port"], values, strict=True))
        row = {
            "what": name,
            "code": label,
            "median_ms": 1e3 * statistics.median(values),
            "min_ms": 1e3 * min(values),
            "times_faster_than_port": ratio,
            "rounds": rounds,
        }
        rows.append(row)
        print(f"{name:30} {label:6} {row['median_ms']:9.1f} ms, {ratio:5.2f} times as fast as the port")
    return rows


def memory(rounds: int) -> list[dict]:
    """Peak memory of one training step over the model and its gradients, each in a process of its own."""
    rows = []
    for name in PORTS:
        for label in ("comhe", "port"):
            command = [sys.executable, "-m", "benchmarks.points", "peak", "--case", f"{name}:{label}"]
            seen = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            rows.append({"what": name, "code": label, "peak_mib": seen})
            print(f"{name:30} {label:6} {seen:9.1f} MiB")
    return rows


def peak(case: str) -> float:
    """Peak resident memory of a step over what is held before it, in MiB."""
    name, label = case.split(":")
    call = training_step(name, label == "port")
    torch.ones(64, 64, requires_grad=True).matmul(torch.ones(64, 64)).sum().backward()  # libraries and threads
    Path("/proc/self/clear_refs").write_text("5")  # the kernel forgets the peak so far
    before = _resident("VmRSS")
    call()
    return (_resident("VmHWM") - before) / 1024


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", choices=("step", "operations", "memory", "peak"))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--case", help="of peak")
    parser.add_argument("--out", type=Path, help="CSV file")
    flags = parser.parse_args()
    if flags.section == "peak":
        print(json.dumps(peak(flags.case)))
        return
    rows = {"step": step, "operations": operations, "memory": memory}[flags.section](flags.rounds)
    save(flags.out, rows)


if __name__ == "__main__":
    main()

"""What a regularizer costs, forward and backward, beside the training step that it is added to.

    python -m benchmarks.regularizers cost --out benchmarks/regularizer_cost.csv
    python -m benchmarks.regularizers memory --out benchmarks/regularizer_memory.csv
    python -m benchmarks.regularizers scaling --out benchmarks/regularizer_scaling.csv

Everything that is compared takes turns within each round of one process; medians over the rounds, and the medians of
the ratios within rounds. Memory is the peak resident size of a fresh process over what it held before the first call.
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

from comhe.regularizers import create_regularizer, diagnose, hyperspherical_energy, list_regularizers
from comhe.zoo import create_model

from .output import save
from .released import Released

Call = Callable[[], object]


def cnn9() -> tuple[nn.Module, Call]:
    """CNN-9 and its training step: batch 128, fp32, channels-last, SGD with momentum."""
    model = create_model("cnn9", num_classes=100).to(memory_format=torch.channels_last)
    x = torch.randn(128, 3, 32, 32).to(memory_format=torch.channels_last)
    return model, step_call(model, lambda: F.cross_entropy(model(x), torch.zeros(128, dtype=torch.int64)))


def resnet18() -> tuple[nn.Module, Call]:
    """Torchvision's ResNet-18 and its step on 16 images of 224 x 224."""
    from torchvision.models import resnet18

    model = resnet18().to(memory_format=torch.channels_last)
    x = torch.randn(16, 3, 224, 224).to(memory_format=torch.channels_last)
    return model, step_call(model, lambda: F.cross_entropy(model(x), torch.zeros(16, dtype=torch.int64)))


def pointnet_sized() -> tuple[nn.Module, Call]:
    """PointNet's layers without T-Nets, as linear layers, on 32 clouds of 1,024 points."""

    def mlp(*widths: int) -> nn.Sequential:
        layers = (nn.Sequential(nn.Linear(a, b, bias=False), nn.BatchNorm1d(b), nn.ReLU()) for a, b in pairwise(widths))
        return nn.Sequential(*layers)

    points, head = mlp(3, 64, 64, 64, 128, 1024), nn.Sequential(mlp(1024, 512, 256), nn.Linear(256, 40))
    x = torch.randn(32 * 1024, 3)

    def loss() -> Tensor:
        return F.cross_entropy(head(points(x).view(32, 1024, -1).amax(1)), torch.zeros(32, dtype=torch.int64))

    model = nn.ModuleDict({"points": points, "head": head})
    return model, step_call(model, loss)


def gcn_sized() -> tuple[nn.Module, Call]:
    """Kipf's GCN with Cora's 1,433 inputs on the built-in graph's size; the step is ours, the fastest there is here."""
    from comhe.train.graphs import GraphRecipe, GraphTask

    task = GraphTask(GraphRecipe(data="citations"))
    model = task.model()
    batch = task.collate()
    return model, step_call(model, lambda: task.loss(model, batch)[0])


MODELS = {"cnn9": cnn9, "resnet18": resnet18, "pointnet-sized": pointnet_sized, "gcn-sized": gcn_sized}


def step_call(model: nn.Module, loss: Callable[[], Tensor]) -> Call:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step


def penalty_call(model: nn.Module, regularizer: Callable[[], Tensor]) -> Call:
    def call() -> None:
        model.zero_grad()
        regularizer().backward()

    return call


def _products(model: nn.Module, count: int = 20, dim: int = 40) -> Call:
    """Only the matrix products that CoMHE in the neurons' span cannot do without, each into memory that is there.

    Gram matrix and its half of the gradient, W's projection and its gradient, the projections' cosines and what these
    push: what is left of the regularizer if everything else cost nothing.
    """
    jobs: list[tuple[Tensor, Tensor, Tensor]] = []
    for layer in create_regularizer("hs-mhe", model).layers:
        w = layer.neurons(ordered=False).detach()
        n, d = w.shape
        if layer.role == "output" or max(n, dim) >= d:
            continue
        square, draws, units = torch.randn(n, n), torch.randn(count * dim, n), torch.randn(count, n, dim)
        jobs += [(w, w.mT, torch.empty(n, n)), (square, w, torch.empty(n, d))]
        jobs += [(draws, square, torch.empty(count * dim, n)), (draws.mT, draws, torch.empty(n, n))]
        cosines = torch.empty(count, n, n)
        jobs += [(units, units.mT, cosines), (cosines, units, torch.empty_like(units))]

    def call() -> None:
        for a, b, out in jobs:
            torch.matmul(a, b, out=out)

    return call


def _options(name: str) -> list[tuple[str, dict]]:
    return [(name, {}), (f"{name}, ambient", {"span": False})] if name == "rp-comhe" else [(name, {})]


def cost(models: list[str], rounds: int) -> list[dict]:
    """Every regularizer's milliseconds beside the model's own step and the ported formula."""
    rows = []
    for model_name in models:
        torch.manual_seed(0)
        model, step = MODELS[model_name]()
        calls: dict[str, Call] = {"training step": step}
        calls["ported hs-mhe"] = penalty_call(model, Released(model))
        calls["ported rp-comhe"] = penalty_call(model, Released(model, count=20, dim=40))
        calls["products of rp-comhe"] = _products(model)
        for name in list_regularizers():
            if name != "none":
                for label, options in _options(name):
                    calls[label] = penalty_call(model, create_regularizer(name, model, **options))
        times = _interleaved(calls, rounds)
        for label, values in times.items():
            port = times["ported hs-mhe" if label == "hs-mhe" else "ported rp-comhe"]
            comparable = label == "hs-mhe" or "rp-comhe" in label.removeprefix("ported")
            row = {
                "model": model_name,
                "what": label,
                "median_ms": 1e3 * statistics.median(values),
                "min_ms": 1e3 * min(values),
                "percent_of_step": 100 * _ratio(values, times["training step"]),
                "times_faster_than_port": _ratio(port, values) if comparable else "",
                "rounds": rounds,
            }
            rows.append(row)
            print(f"{model_name:15} {label:26} {row['median_ms']:9.2f} ms {row['percent_of_step']:7.2f} % of the step")
    return rows


def _ratio(a: list[float], b: list[float]) -> float:
    """Median over the rounds of a / b."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def _interleaved(calls: dict[str, Call], rounds: int) -> dict[str, list[float]]:
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {label: [] for label in calls}
    for _ in range(rounds):
        for label, call in calls.items():
            start = time.perf_counter()
            call()
            times[label].append(time.perf_counter() - start)
    return times


def memory(models: list[str], rounds: int) -> list[dict]:
    """Peak memory of one forward and backward over the model alone, each in a process of its own."""
    cases = [f"cnn9:{what}" for what in ("ported rp-comhe", "rp-comhe, ambient", "rp-comhe", "ported hs-mhe", "hs-mhe")]
    cases += ["energy:20000:512", "energy:100000:64"]
    cases += [f"{name}:20000:512" for name in (*list_regularizers(), "diagnose") if name != "none"]
    rows = []
    for case in cases:
        command = [sys.executable, "-m", "benchmarks.regularizers", "peak", "--case", case]
        seen = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows.append({"case": case, **seen})
        print(f"{case:25} {seen['peak_mib']:9.1f} MiB {seen['seconds']:8.2f} s")
    return rows


def peak(case: str) -> dict[str, float]:
    """Peak resident memory over the start, and seconds, of one case."""
    torch.manual_seed(0)
    kind, _, rest = case.partition(":")
    if kind == "energy":
        n, d = map(int, rest.split(":"))
        w = torch.randn(n, d, requires_grad=True)

        def call() -> None:
            hyperspherical_energy(w, 2, half_space=True).backward()

    elif kind == "diagnose":
        w = torch.randn(*map(int, rest.split(":")))

        def call() -> None:
            diagnose(w)

    elif kind not in MODELS:  # a regularizer of one layer
        n, d = map(int, rest.split(":"))
        model = nn.Linear(d, n, bias=False)
        model.weight.grad = torch.zeros_like(model.weight)
        one = create_regularizer(kind, model, output=None)

        def call() -> None:
            one().backward()

    else:
        model, _ = MODELS[kind]()
        for p in model.parameters():
            p.grad = torch.zeros_like(p)  # the optimizer needs them anyway
        ported = {"ported rp-comhe": (20, 40), "ported hs-mhe": (0, 0)}
        if rest in ported:
            regularizer = Released(model, *ported[rest])
        else:
            options = {"span": False} if rest.endswith("ambient") else {}
            regularizer = create_regularizer(rest.split(",")[0], model, **options)

        def call() -> None:
            regularizer().backward()

    torch.ones(64, 64, requires_grad=True).matmul(torch.ones(64, 64)).sum().backward()  # libraries and threads
    Path("/proc/self/clear_refs").write_text("5")  # the kernel forgets the peak so far
    before, start = _resident("VmRSS"), time.perf_counter()
    call()
    return {"peak_mib": (_resident("VmHWM") - before) / 1024, "seconds": time.perf_counter() - start}


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def scaling(models: list[str], rounds: int) -> list[dict]:
    """Time against N at d = 256 and against the number of layers, with the slope of the logarithms."""
    rows = []
    for what, sizes in (("N", (256, 512, 1024, 2048, 4096, 8192, 16384)), ("layers", (1, 2, 4, 8, 16, 32))):
        calls: dict[str, Call] = {}
        for size in sizes:
            n, layers = (size, 1) if what == "N" else (128, size)
            # An output layer of two neurons, so that all others are hidden ones.
            model = nn.Sequential(*(nn.Linear(256, n, bias=False) for _ in range(layers)), nn.Linear(8, 2))
            calls[str(size)] = penalty_call(model, create_regularizer("hs-mhe", model))
        times = _interleaved(calls, rounds if what == "layers" else max(3, rounds // 4))
        medians = {int(size): statistics.median(values) for size, values in times.items()}
        for size, seconds in medians.items():
            smaller = medians.get(size // 2)
            slope = "" if smaller is None else torch.tensor(seconds / smaller).log2().item()
            rows.append({"against": what, "size": size, "median_ms": 1e3 * seconds, "slope": slope})
            print(f"{what:7} {size:6d} {1e3 * seconds:10.2f} ms  slope {slope}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", choices=("cost", "memory", "scaling", "peak"))
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--case", help="of peak")
    parser.add_argument("--out", type=Path, help="CSV file")
    flags = parser.parse_args()
    if flags.section == "peak":
        print(json.dumps(peak(flags.case)))
        return
    rows = {"cost": cost, "memory": memory, "scaling": scaling}[flags.section](flags.models, flags.rounds)
    save(flags.out, rows)


if __name__ == "__main__":
    main()

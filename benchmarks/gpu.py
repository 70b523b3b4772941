"""All that is to be known of a GPU, part by part; each prints its rows and writes `gpu_PART.csv` to the folder `--out`.

    python -m benchmarks.gpu --out benchmarks                      # everything
    python -m benchmarks.gpu penalty --rounds 10 --networks cnn9   # less of it, where time is short
    python -m benchmarks.gpu training --full                       # CNN-9's 75,000 steps, not a projection
    python -m benchmarks.gpu --tiny --device cpu                   # that it runs; its figures mean nothing

ceilings   matrix products and copies a second, measured, and reciprocals, computed: what other figures are fractions of
numerics   every kernel's energies and gradients against float64
penalty    what RP-CoMHE (in the span and ambient) and half-space MHE add to captured steps, beside the network and not
alone      the penalties without a network: milliseconds and launches
profile    where a captured step of CNN-9 spends its time, kernel by kernel: alone, with half-space MHE and RP-CoMHE
energy     one large energy with its gradient: share of what products and reciprocals allow; eager PyTorch; memory
training   CNN-9 by the paper's recipe with RP-CoMHE, from timed epochs or in full
points     PointNet++ and its operations beside the usual ones, see :mod:`.gpu_points`

Device events around every call, after warm-up; medians. Shares are of medians of calls that take turns. A captured call
is compared with a captured one. Rows are written as they come, so that what is cut short keeps them.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from comhe.regularizers import create_regularizer, hyperspherical_energy, list_regularizers
from comhe.regularizers.energies.reference import reference_energy
from comhe.zoo import create_model

from . import gpu_points, gpu_training
from .gpu_points import _milliseconds as milliseconds
from .gpu_points import captured
from .output import Table

Call = Callable[[], object]
Rows = Iterator[dict[str, Any]]


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    matrix: int = 8192
    copied: int = 2**30  # numbers
    neurons: int = 65_536
    width: int = 64
    rounds: int = 30
    networks: tuple[str, ...] = tuple(gpu_training.NETWORKS)
    penalties: tuple[str, ...] = tuple(gpu_training.PENALTIES)


MEASURED, COMPUTED = {"how": "measured"}, {"how": "computed from the clock"}
TINY = Size(matrix=32, copied=1024, neurons=256, width=8, rounds=2)


def is_tiny(size: Size) -> bool:
    return size.matrix == TINY.matrix


def median(call: Call, device: torch.device, rounds: int) -> float:
    """Seconds."""
    for _ in range(min(3, rounds)):
        call()
    return statistics.median(milliseconds(call, device) for _ in range(rounds)) / 1e3


def ceilings(device: torch.device, size: Size) -> Rows:
    """TFLOP/s of products in each precision, GB/s of a copy (read and written), reciprocals a second; and how found."""
    for name, dtype, tf32 in (("bf16", torch.bfloat16, False), ("tf32", torch.float32, True), ("fp32", None, False)):
        with gpu_points._tf32(tf32):
            a, b = (torch.randn(size.matrix, size.matrix, device=device, dtype=dtype) for _ in range(2))
            seconds = median(lambda a=a, b=b: a @ b, device, size.rounds)
        yield {
            "what": f"matrix product, {name}",
            "unit": "TFLOP/s",
            "value": 2 * size.matrix**3 / seconds / 1e12,
        } | MEASURED
    source = torch.randn(size.copied, device=device)
    target = torch.empty_like(source)
    seconds = median(lambda: target.copy_(source), device, size.rounds)
    yield {"what": "copy", "unit": "GB/s", "value": 2 * source.nbytes / seconds / 1e9} | MEASURED
    if device.type == "cuda":
        yield {"what": "reciprocals", "unit": "T/s", "value": _reciprocals(device) / 1e12} | COMPUTED


def _reciprocals(device: torch.device) -> float:
    """A second: 16 in each cycle of a multiprocessor at its highest clock (CUDA programming guide, throughput)."""
    properties = torch.cuda.get_device_properties(device)
    clock = getattr(properties, "clock_rate", 1_980_000)  # kHz; an H200's where torch does not tell
    return 16.0 * properties.multi_processor_count * clock * 1e3


def numerics(device: torch.device, size: Size) -> Rows:
    """Relative errors of float32 on the device: energies against float64 on the CPU (few neurons: against the
    definition), with and without nearly parallel neurons; whole penalties with the same random numbers against float64
    on the device, which takes no kernel."""
    torch.manual_seed(0)
    shapes = [(100, 27), (512, 2304), (2048, 40), (64, 576), (1000, 512)]
    for n, d in shapes if not is_tiny(size) else [(20, 9)]:
        for near in (False, True):
            w = torch.randn(n, d)
            if near:
                w[1::2] = w[::2] + 1e-2 * w[1::2]  # above the angle from which float32 has a tangent
            for s, half in ((0, False), (1, True), (2, False), (2, True)):
                pair = [w.double(), w.to(device)]
                found = [_with_gradient(lambda x, s=s, h=half: hyperspherical_energy(x, s, h), x) for x in pair]
                if n <= 100:  # by its definition, which is too slow for more
                    found[0] = torch.tensor(reference_energy(w.tolist(), s, half), dtype=torch.float64), found[0][1]
                yield {"what": f"energy of {n} x {d}", "s": s, "half_space": half, "near": near} | _errors(found)
    for model_name in ("cnn9",) if not is_tiny(size) else ("resnet8",):
        for name in list_regularizers():
            if name == "none":
                continue
            found = []
            for dtype in (torch.float64, torch.float32):
                torch.manual_seed(0)
                model = create_model(model_name, num_classes=10).to(device, dtype)
                penalty = create_regularizer(name, model)()
                penalty.backward()
                gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
                found.append((penalty.detach(), torch.cat(gradients)))
            yield {"what": f"{name} of {model_name}", "s": "-", "half_space": "-", "near": False} | _errors(found)


def _with_gradient(energy: Callable[[Tensor], Tensor], w: Tensor) -> tuple[Tensor, Tensor]:
    w = w.detach().requires_grad_()
    value = energy(w)
    value.backward()
    return value.detach(), w.grad


def _errors(found: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    (value, gradient), (value32, gradient32) = (tuple(t.double().cpu() for t in pair) for pair in found)
    scale = gradient.norm().clamp_min(torch.finfo(torch.float64).tiny)
    return {
        "energy_error": ((value32 - value) / value).abs().item(),
        "gradient_error": ((gradient32 - gradient).norm() / scale).item(),
    }


def energy(device: torch.device, size: Size) -> Rows:
    """One energy with gradient, N neurons of k dimensions; the port's formula at the largest N that it can hold."""
    n, k = size.neurons, size.width
    limits = {row["what"]: row["value"] for row in ceilings(device, size)}
    ours = _energy_seconds(hyperspherical_energy, n, k, device, size.rounds)
    row = {"what": "ours", "n": n, "k": k, "median_ms": 1e3 * ours["seconds"], "peak_mib": ours["mib"]}
    # Cosines of all pairs and what they push are 2 N^2 k operations each; a reciprocal for each pair of two.
    for name in ("tf32", "fp32"):
        products = 4 * n * n * k / (1e12 * limits[f"matrix product, {name}"])
        reciprocals = n * n / 2 / (1e12 * limits["reciprocals"]) if "reciprocals" in limits else 0.0
        row[f"share_of_limit_{name}"] = (products + reciprocals) / ours["seconds"]
    yield row | {"times_faster_than_eager": ""}
    fast = _energy_seconds(partial(hyperspherical_energy, precision="tf32"), n, k, device, size.rounds)
    row = {"what": "ours, precision tf32", "n": n, "k": k, "median_ms": 1e3 * fast["seconds"], "peak_mib": fast["mib"]}
    yield row | {"share_of_limit_tf32": "", "share_of_limit_fp32": "", "times_faster_than_eager": ""}
    while n >= 64:
        try:
            theirs = _energy_seconds(eager_energy, n, k, device, max(1, size.rounds // 6))
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            n = n * 3 // 4
            continue
        ours = _energy_seconds(hyperspherical_energy, n, k, device, size.rounds)
        for what, seen in (("ours", ours), ("eager", theirs)):
            row = {"what": what, "n": n, "k": k, "median_ms": 1e3 * seen["seconds"], "peak_mib": seen["mib"]}
            faster = theirs["seconds"] / seen["seconds"]
            yield row | {"share_of_limit_tf32": "", "share_of_limit_fp32": "", "times_faster_than_eager": faster}
        return


def eager_energy(w: Tensor) -> Tensor:
    """The mean inverse squared distance as it is usually written."""
    units = w / w.norm(dim=1, keepdim=True)
    inverse = (2 - 2 * units @ units.T).fill_diagonal_(torch.inf).reciprocal()
    return inverse.sum() / (len(w) * (len(w) - 1))


def _energy_seconds(function: Callable[[Tensor], Tensor], n: int, k: int, device: torch.device, rounds: int) -> dict:
    torch.manual_seed(0)
    w = torch.randn(n, k, device=device, requires_grad=True)

    def call() -> None:
        w.grad = None
        function(w).backward()

    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    call()
    mib = (torch.cuda.max_memory_allocated(device) - before) / 2**20 if on_gpu else 0.0
    timed = captured(call, device) if on_gpu else call
    return {"seconds": median(timed, device, rounds), "mib": mib}


def points(device: torch.device, size: Size) -> Rows:
    """See :mod:`.gpu_points`."""
    yield from gpu_points.rows(device, **({"batch": 2, "points": 40, "rounds": 1} if is_tiny(size) else {}))


PARTS = {
    "ceilings": ceilings,
    "numerics": numerics,
    "penalty": lambda device, size: gpu_training.penalty(
        device, size.rounds, is_tiny(size), size.networks, size.penalties
    ),
    "alone": lambda device, size: gpu_training.alone(device, size.rounds, is_tiny(size), size.networks, size.penalties),
    "profile": lambda device, size: gpu_training.profile(device, is_tiny(size)),
    "energy": energy,
    "training": lambda device, size: gpu_training.training(device, is_tiny(size)),
    "training --full": lambda device, size: gpu_training.training(device, is_tiny(size), full=True),
    "points": points,
}


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [name for name in PARTS if " " not in name]
    parser.add_argument("parts", nargs="*", default=names, metavar="part", help=", ".join(names))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small enough for any machine; figures mean nothing")
    parser.add_argument("--full", action="store_true", help="train CNN-9 to the end")
    parser.add_argument("--rounds", type=int, help="of every measurement, 30 unless given")
    networks = list(gpu_training.NETWORKS)
    parser.add_argument("--networks", nargs="+", default=networks, choices=networks, help="of the part penalty")
    penalties = list(gpu_training.PENALTIES)
    parser.add_argument("--penalties", nargs="+", default=penalties, choices=penalties, help="of the part penalty")
    parser.add_argument("--out", type=Path, help="folder for the tables")
    flags = parser.parse_args(words)
    if unknown := sorted({*flags.parts} - {*names}):
        parser.error(f"no part {unknown[0]!r}; there are {', '.join(names)}")
    if flags.tiny and flags.out:
        parser.error("figures of --tiny mean nothing and are not written: leave out --out")
    size = replace(TINY if flags.tiny else Size(), networks=tuple(flags.networks), penalties=tuple(flags.penalties))
    size = size if flags.rounds is None else replace(size, rounds=flags.rounds)
    tables = {name: Table(flags.out and flags.out / f"gpu_{name}.csv") for name in flags.parts}
    for name in flags.parts:
        part = PARTS["training --full" if name == "training" and flags.full else name]
        for row in part(torch.device(flags.device), size):
            tables[name].add(row)
            shown = (
                f"{key} {value:.5g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            )
            print(f"{name}: {', '.join(shown)}", flush=True)


if __name__ == "__main__":
    main()

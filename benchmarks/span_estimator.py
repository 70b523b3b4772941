"""AP- and adversarial CoMHE with their projections in the span of the neurons, beside those in all dimensions.

    python -m benchmarks.span_estimator --out benchmarks/span_estimator.csv

In the span, P [k, d] is known by its action Z [k, N] on a basis of the neurons' rows, as that of ``rp-comhe`` is. At
fixed neurons both forms are drawn once for each seed, then let P learn for some calls: the penalty of the last, and its
gradient's noise, the mean squared distance from its mean over the squared mean. Then the penalty trains neurons alone,
by gradient descent at several rates: the energy in the half space of the neurons themselves, unprojected, and the time
of a step. Means and standard deviations over seeds.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from comhe.regularizers import create_regularizer, hyperspherical_energy

from .output import save

SHAPES = ((64, 576), (128, 1152))
RATES = (1.0, 4.0, 16.0, 64.0)
STARTS = {"crowded": 1.0, "random": 0.0}  # cosines of about 1/2 and 0


class Coordinates(torch.autograd.Function):
    """R of W = R Q^T, and its gradient for a fixed Q."""

    @staticmethod
    def forward(ctx, w: Tensor) -> Tensor:
        products = w @ w.mT
        products.diagonal().mul_(1 + 2 * len(w) * torch.finfo(w.dtype).eps)  # as rp-comhe's
        factor = torch.linalg.cholesky(products)
        ctx.save_for_backward(w, factor)
        return factor

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        w, factor = ctx.saved_tensors
        return torch.linalg.solve_triangular(factor, grad, upper=False, left=False) @ w


def penalty(name: str, w: Tensor, span: bool, seed: int) -> Callable[[], Tensor]:
    """The regularizer of the neurons w [N, d] as they are at each call."""
    n, d = w.shape
    regularizer = create_regularizer(name, nn.Linear(n if span else d, n, bias=False), output=None, seed=seed)
    return lambda: regularizer({"weight": Coordinates.apply(w) if span else w})


def neurons(n: int, d: int, common: float, seed: int) -> Tensor:
    """Random ones, with a direction in common."""
    draw = torch.Generator().manual_seed(seed)
    w = torch.randn(n, d, generator=draw) + common * torch.randn(d, generator=draw)
    return w.div((d * (1 + common**2)) ** 0.5).requires_grad_()


def at_fixed_neurons(name: str, w: Tensor, span: bool, seeds: int, calls: int) -> dict[str, float]:
    values, gradients = [], []
    for seed in range(seeds):
        function = penalty(name, w, span, seed)
        for _ in range(calls):
            value = function()
        values.append(value.item())
        gradients.append(torch.autograd.grad(value, w)[0])
    stack = torch.stack(gradients)
    mean = stack.mean(0)
    spread = (stack - mean).square().sum() / (seeds - 1)
    signal = mean.square().sum() - spread / seeds  # unbiased
    return {
        "value": statistics.mean(values),
        "value_std": statistics.stdev(values),
        "gradient_noise": (spread / signal).item(),
    }


def trained(name: str, w: Tensor, span: bool, rate: float, seed: int, steps: int) -> tuple[float, float, float]:
    """The energy before and after, and the milliseconds of a step."""
    function, before, times = penalty(name, w, span, seed), _energy(w), []
    for _ in range(steps):
        start = time.perf_counter()
        (gradient,) = torch.autograd.grad(function(), w)
        with torch.no_grad():
            w -= rate * gradient
        times.append(1e3 * (time.perf_counter() - start))
    return before, _energy(w), statistics.median(times)


def _energy(w: Tensor) -> float:
    return hyperspherical_energy(w.detach().double(), 2, half_space=True).item()


def rows(seeds: int, steps: int, draws: int, calls: int) -> list[dict[str, Any]]:
    cases = itertools.product(SHAPES, STARTS, ("ap-comhe", "adv-comhe"))
    return [row for case in cases for row in compared(*case, seeds, steps, draws, calls)]


def compared(
    shape: tuple[int, int], start: str, name: str, seeds: int, steps: int, draws: int, calls: int
) -> list[dict[str, Any]]:
    forms, common = {"ambient": False, "span": True}, STARTS[start]
    runs = {
        (form, rate, seed): trained(name, neurons(*shape, common, seed), span, rate, seed, steps)
        for seed, rate, (form, span) in itertools.product(range(seeds), RATES, forms.items())  # they take turns
    }
    found = []
    for form, span in forms.items():
        energies = {rate: [runs[form, rate, seed][1] for seed in range(seeds)] for rate in RATES}
        best = min(RATES, key=lambda rate: statistics.mean(energies[rate]))
        row: dict[str, Any] = {"neurons": shape[0], "dimensions": shape[1], "start": start, "penalty": name}
        row |= {"form": form, **at_fixed_neurons(name, neurons(*shape, common, 0), span, draws, calls)}
        row |= {
            "steps": steps,
            "seeds": seeds,
            "energy_before": statistics.mean(runs[form, best, i][0] for i in range(seeds)),
        }
        row |= {f"energy_at_rate_{rate:g}": statistics.mean(values) for rate, values in energies.items()}
        row |= {"best": statistics.mean(energies[best]), "best_std": statistics.stdev(energies[best])}
        row["step_ms"] = statistics.median(ms for (kind, *_), (*_, ms) in runs.items() if kind == form)
        print({key: f"{x:.5g}" if isinstance(x, float) else x for key, x in row.items()})
        found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--draws", type=int, default=64, help="at fixed neurons")
    parser.add_argument("--calls", type=int, default=5, help="of each draw, at fixed neurons")
    parser.add_argument("--out", type=Path, help="CSV file")
    flags = parser.parse_args()
    torch.set_num_threads(1)
    save(flags.out, rows(flags.seeds, flags.steps, flags.draws, flags.calls))


if __name__ == "__main__":
    main()

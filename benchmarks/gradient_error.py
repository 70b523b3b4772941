"""How wrong the gradient of two neurons is, relative to its size, by the angle between them.

    python -m benchmarks.gradient_error --out benchmarks/gradient_error.csv

The energy itself is compared with 40 digits (mpmath): ``defined`` with the tangent below the floor, which is what is
computed, ``true`` without it: what is left of the pole. Penalties are compared with themselves in float64, of the same
weights and projections, with the floor of float32. A line is the worst of both spaces and, for the energy, of the
shapes N <= d and N > d. Kernels run in Triton's interpreter where there is no GPU.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mpmath
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from comhe.regularizers import create_regularizer, hyperspherical_energy
from comhe.regularizers.energies.potential import Potential
from comhe.regularizers.energies.reference import reference_gradient
from comhe.regularizers.energies.terms import Terms

from .output import save

ANGLES = (0.0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
POWERS = (0.0, 0.5, 1.0, 2.0, 4.0)
SHAPES = ((3, 5), (5, 3))
PENALTIES: dict[str, dict[str, Any]] = {
    "mhe": {},
    "hs-mhe": {},
    "group-comhe": {"groups": 3},
    "rp-comhe": {"dim": 10, "span": False},
    "rp-comhe, span": {"dim": 10, "span": True},
    "ap-comhe": {"dim": 10},
    "adv-comhe": {"dim": 10},
}


def pair_at(n: int, d: int, angle: float, sign: int = 1) -> Tensor:
    """N random neurons, the first two at this angle or, with sign -1, that angle short of 180 degrees."""
    w = normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(4), dtype=torch.float64), dim=-1)
    aside = normalize(w[1] - (w[1] @ w[0]) * w[0], dim=0)
    w[1] = 3 * sign * (math.cos(angle) * w[0] + math.sin(angle) * aside)
    return w


def exact(w: Tensor, potential: Potential, dtype: torch.dtype, true: bool) -> Tensor:
    """The gradient in 40 digits."""
    rows = [[mpmath.mpf(x) for x in row] for row in w.tolist()]
    floor, parallel = (0.0, 0.0) if true else (potential.floor(dtype), potential.parallel(dtype))
    options = {"floor": floor, "parallel": parallel, "numbers": mpmath.mp}
    with mpmath.workdps(40):
        found = reference_gradient(rows, potential.s, potential.half_space, potential.geodesic, **options)
        return torch.tensor([[float(x) for x in row] for row in found], dtype=torch.float64)


def error(found: Tensor, expected: Tensor) -> float:
    """Of the first two neurons."""
    return float((found.double() - expected)[:2].norm() / expected[:2].norm())


def by_torch(w: Tensor, potential: Potential) -> Tensor:
    """The gradient of the mean energy."""
    w = w.clone().requires_grad_()
    value = hyperspherical_energy(w, potential.s, potential.half_space, geodesic=potential.geodesic)
    return torch.autograd.grad(value, w)[0]


def by_kernels(w: Tensor, potential: Potential) -> Tensor:
    """The same by the kernels."""
    from comhe.regularizers.energies import kernels

    device = "cuda" if torch.cuda.is_available() else "cpu"
    wide = nn.functional.pad(w, (0, 160 - w.shape[1])) if w.shape[1] > w.shape[0] else w  # of either kind
    _, (gradient,) = kernels.energy_sums([wide[None].to(device)], Terms(potential))
    return gradient[0, :, : w.shape[1]].cpu() / potential.pairs(len(w))


def energy_rows() -> Iterator[dict[str, Any]]:
    """Lines of the energy, computed in every way."""
    ways: list[tuple[str, Callable[[Tensor, Potential], Tensor], torch.dtype]] = [
        ("energy", by_torch, torch.float32),
        ("energy", by_torch, torch.float64),
        ("energy, kernels", by_kernels, torch.float32),
    ]
    for (name, way, dtype), geodesic, true, s in itertools.product(ways, (False, True), (False, True), POWERS):
        if geodesic and way is by_kernels:
            continue
        line: dict[str, Any] = {"what": name, "numbers": str(dtype).removeprefix("torch.")}
        line |= {"distance": "angle" if geodesic else "chord", "s": s, "against": "true" if true else "defined"}
        for angle in ANGLES:
            errors = []
            for half_space, shape in itertools.product((False, True), SHAPES):
                potential = Potential(s, geodesic, half_space)
                w = pair_at(*shape, angle, -1 if half_space else 1).to(dtype)
                if true and angle < 1e-7:  # what is left of it is the rounding of the numbers themselves
                    errors.append(math.nan)
                else:
                    errors.append(error(way(w, potential), exact(w, potential, dtype, true)))
            line[f"{angle:g}"] = max(errors)
        yield line


def of_penalty(name: str, w: Tensor, s: float, half_space: bool) -> Tensor:
    """The gradient of a penalty in its second step, with the floor of float32."""
    model = nn.Sequential(nn.Linear(w.shape[1], len(w), bias=False), nn.Linear(len(w), 2)).to(w.dtype)
    with torch.no_grad():
        model[0].weight.copy_(w)
    options = {} if name == "mhe" else {"half_space": half_space}
    regularizer = create_regularizer(name.split(",")[0], model, s=s, output_weight=0.0, **PENALTIES[name], **options)
    regularizer()
    return torch.autograd.grad(regularizer(), model[0].weight)[0]


def penalty_rows() -> Iterator[dict[str, Any]]:
    """Lines of the penalties, against themselves in float64."""
    limits = {limit: getattr(Potential, limit) for limit in ("floor", "parallel")}
    for limit, method in limits.items():
        setattr(Potential, limit, lambda self, dtype, method=method: method(self, torch.float32))
    for name, s in itertools.product(PENALTIES, (0.0, 1.0, 2.0)):
        line: dict[str, Any] = {"what": name, "numbers": "float32", "distance": "chord", "s": s, "against": "float64"}
        for angle in ANGLES:
            errors = []
            for half_space in (False, True):
                w = pair_at(8, 30, angle, -1 if half_space and name != "mhe" else 1).float()
                errors.append(error(of_penalty(name, w, s, half_space), of_penalty(name, w.double(), s, half_space)))
            line[f"{angle:g}"] = max(errors)
        yield line
    for limit, method in limits.items():
        setattr(Potential, limit, method)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    out = parser.parse_args().out
    rows = [*energy_rows(), *penalty_rows()]
    titles = list(rows[0])
    print("  ".join(f"{title:>8}" for title in titles))
    for row in rows:
        print("  ".join(f"{x:8.1e}" if isinstance(x, float) and k != "s" else f"{x!s:>8}" for k, x in row.items()))
    save(out, rows)


if __name__ == "__main__":
    if not torch.cuda.is_available():
        os.environ.setdefault("TRITON_INTERPRET", "1")  # before Triton is imported
    main()

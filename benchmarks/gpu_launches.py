"""The launch table of the kernels, varied: how fast each choice of tiles, warps and stages is on the GPU at hand.

    python -m benchmarks.gpu_launches --out benchmarks/gpu_launches.csv
    python -m benchmarks.gpu_launches --only wide --seconds 60 --out benchmarks/gpu_launches_wide.csv

Sums and gradient in the half space, captured: of one narrow set, or of all wide layers of a network together, as a step
has them. A choice that takes more shared memory than there is says so. Rows are written as they come, the most telling
first; after ``--seconds`` no other choice is begun. The best of each goes to
:mod:`comhe.regularizers.energies.kernels.launches`, with the memory that the tests find.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from comhe.regularizers import create_regularizer
from comhe.regularizers.energies import kernels
from comhe.regularizers.energies.kernels import launches, wide
from comhe.regularizers.energies.kernels.launches import Launch
from comhe.regularizers.energies.potential import Potential
from comhe.regularizers.energies.terms import Terms
from comhe.zoo import create_model

from .gpu import median
from .gpu_points import captured
from .output import Table

SHAPES = ((20, 256, 40), (20, 512, 40), (1, 16_384, 64), (1, 16_384, 128))
NONE = (0, 0)  # shared memory of a choice that is only tried
REPEATS = 20  # calls in a graph: a replay is long beside its start
KERNELS = {"products": "PRODUCTS", "slopes": "SLOPES", "pushes": "PUSHES"}
WIDE: tuple[dict[str, Any], ...] = (  # what differs from the table: tile or chunk, warps and stages, or a number
    {},
    {"programs": 264},
    {"programs": 1056},
    {"products": (64, 64, 4, 2), "pushes": (64, 64, 4, 2)},
    {"products": (64, 32, 8, 3), "pushes": (64, 32, 8, 3)},
    {"products": (64, 32, 4, 2), "pushes": (64, 32, 4, 2)},
    {"slopes": (64, 64, 4, 1)},
    {"products": (32, 64, 4, 3), "slopes": (32, 32, 4, 1), "pushes": (32, 64, 4, 3)},
    {"exact": "ieee"},
    {"programs": 2112},
    {"products": (64, 64, 4, 3), "pushes": (64, 64, 4, 3)},
    {"products": (64, 32, 4, 4), "pushes": (64, 32, 4, 4)},
    {"products": (64, 64, 8, 2), "pushes": (64, 64, 8, 2)},
)


def narrow(device: torch.device, tiny: bool) -> Iterator[tuple[dict[str, Any], AbstractContextManager, list[Tensor]]]:
    """Every choice for one set: what it is, what makes it, and the neurons."""
    for sets, n, d in ((1, 40, 10),) if tiny else SHAPES:
        w, width = _neurons(device, (sets, n, d)), launches.padded_width(d)
        for rows, columns, warps, stages in product((32, 64, 128), (16, 32, 64), (4, 8), (1, 2, 3)):
            if rows % columns == 0 and rows * warps >= 128:
                launch = Launch(rows, columns, warps, stages, NONE)
                sizes = {"rows": rows, "columns": columns, "warps": warps, "stages": stages}
                change = patch.dict(launches.PAIRS, {(width, n >= launches.LARGE): (launch,)})
                yield {"sets": sets, "n": n, "d": d} | sizes, change, [w]


def wide_layers(
    device: torch.device, tiny: bool
) -> Iterator[tuple[dict[str, Any], AbstractContextManager, list[Tensor]]]:
    """A choice for the wide layers of each network, then the next choice."""
    neurons = {"two layers": [_neurons(device, shape) for shape in ((1, 20, 132), (1, 66, 200))]}
    if not tiny:
        neurons = {name: [_neurons(device, shape) for shape in shapes(name)] for name in ("cnn9", "resnet50")}
    for choice in WIDE:
        changes: dict[str, Any] = {KERNELS[k]: Launch(*choice[k], NONE) for k in KERNELS if k in choice}
        changes |= {key.upper(): choice[key] for key in ("programs", "exact") if key in choice}
        table = {kernel: changes.get(name, getattr(wide, name)) for kernel, name in KERNELS.items()}
        row = {k: f"{one.rows}/{one.columns}/{one.num_warps}/{one.num_stages}" for k, one in table.items()}
        row |= {key: changes.get(key.upper(), getattr(wide, key.upper())) for key in ("programs", "exact")}
        for name, layers in neurons.items():
            yield {"network": name} | row, patch.multiple(wide, **changes) if changes else patch.dict({}), layers


def shapes(model: str) -> list[tuple[int, int, int]]:
    """Sets, neurons and dimensions of the hidden layers whose neurons are wide."""
    with torch.device("meta"):
        layers = create_regularizer("hs-mhe", create_model(model, num_classes=100)).layers
    return [(1, *x.shape[-2:]) for x in layers if x.role == "hidden" and x.shape[-1] > kernels.NARROW]


def _neurons(device: torch.device, shape: tuple[int, int, int]) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(shape, device=device)


def timed(choices: Iterator, device: torch.device, rounds: int, until: float) -> Iterator[dict[str, Any]]:
    """A row for each choice that is begun in time; seconds are those of compiling and measuring."""
    terms = Terms(Potential(2.0, False, True))
    for row, change, neurons in choices:
        if (began := time.monotonic()) > until:
            return
        with change:
            try:
                call = lambda: kernels.energy_sums(neurons, terms)  # noqa: B023, E731
                call()
                on_gpu = device.type == "cuda"
                many, repeats = (captured(call, device, REPEATS), REPEATS) if on_gpu else (call, 1)
                row |= {"median_ms": 1e3 * median(many, device, rounds) / repeats, "failure": ""}
            except Exception as error:  # too much shared memory, too many registers, no such layout
                row |= {"median_ms": "", "failure": type(error).__name__}
        yield row | {"seconds": time.monotonic() - began}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--only", choices=("narrow", "wide"), help="wide ones have other columns: they go to another file"
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=600.0, help="after which no other choice is begun")
    parser.add_argument("--tiny", action="store_true", help="in Triton's interpreter: that it runs")
    parser.add_argument("--out", type=Path)
    flags = parser.parse_args()
    until, device = time.monotonic() + flags.seconds, torch.device(flags.device)
    for name, choices in (("wide", wide_layers), ("narrow", narrow)):
        if flags.only in (None, name):
            path = flags.out
            if path and name == "wide" and not flags.only:
                path = path.with_stem(f"{path.stem}_wide")
            table = Table(path)
            for row in timed(choices(device, flags.tiny), device, flags.rounds, until):
                table.add(row)
                print(
                    ", ".join(f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()),
                    flush=True,
                )
                if flags.tiny:
                    break


if __name__ == "__main__":
    main()

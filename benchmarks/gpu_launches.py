"""The launch table of the kernels, varied: how fast each choice of tiles, warps and stages is on the GPU at hand.

    python -m benchmarks.gpu_launches --out benchmarks/gpu_launches.csv

Sums and gradient of one set, captured, in the half space; a choice that takes more shared memory than there is says so.
The best of each goes to :mod:`comhe.regularizers.energies.kernels.launches`, with the memory that the tests find.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from comhe.regularizers.energies import kernels
from comhe.regularizers.energies.kernels import launches, wide
from comhe.regularizers.energies.kernels.launches import Launch
from comhe.regularizers.energies.potential import Potential
from comhe.regularizers.energies.terms import Terms

from .gpu import median
from .gpu_points import captured
from .output import Table

SHAPES = ((20, 256, 40), (20, 512, 40), (1, 16_384, 64), (1, 16_384, 128), (3, 256, 2304), (1, 2048, 2048))
TINY = ((1, 40, 10), (1, 20, 130))
NONE = (0, 0)  # shared memory of a choice that is only tried


def choices(width: int) -> Iterator[Launch]:
    """All that are tried for dimensions padded to ``width``; more than 128 are for the kernels of wide neurons."""
    if width > kernels.NARROW:  # tables of tiles are made for one side
        for columns, warps, stages in product((16, 32, 64), (4, 8), (1, 2, 3, 4)):
            yield Launch(launches.WIDE.rows, columns, warps, stages, NONE)
        return
    for rows, columns, warps, stages in product((32, 64, 128), (16, 32, 64), (4, 8), (1, 2, 3)):
        if rows % columns == 0 and rows * warps >= 128:
            yield Launch(rows, columns, warps, stages, NONE)


def rows(device: torch.device, rounds: int, tiny: bool) -> Iterator[dict[str, Any]]:
    terms = Terms(Potential(2.0, False, True))
    for sets, n, d in TINY if tiny else SHAPES:
        torch.manual_seed(0)
        w = torch.randn(sets, n, d, device=device)
        width, is_large = launches.padded_width(d), n >= launches.LARGE
        for launch in list(choices(width))[: 1 if tiny else None]:
            if width > kernels.NARROW:
                change: Any = patch.object(wide, "WIDE", launch)
            else:
                change = patch.dict(launches.PAIRS, {(width, is_large): (launch,)})
            sizes = {"rows": launch.rows, "columns": launch.columns, "warps": launch.num_warps}
            row = {"sets": sets, "n": n, "d": d} | sizes | {"stages": launch.num_stages}
            with change:
                try:
                    call = lambda: kernels.energy_sums([w], terms)  # noqa: B023, E731
                    call()
                    timed = captured(call, device) if device.type == "cuda" else call
                    yield row | {"median_ms": 1e3 * median(timed, device, rounds), "failure": ""}
                except Exception as error:  # too much shared memory, too many registers, no such layout
                    yield row | {"median_ms": "", "failure": type(error).__name__}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--tiny", action="store_true", help="in Triton's interpreter: that it runs")
    parser.add_argument("--out", type=Path)
    flags = parser.parse_args()
    table = Table(flags.out)
    for row in rows(torch.device(flags.device), flags.rounds, flags.tiny):
        table.add(row)
        print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)


if __name__ == "__main__":
    main()

"""How the kernels are launched: tiles, warps and stages, in one table, with the shared memory that each choice takes.

Those of width 64, and of width 128 for large sets, are the best, or within 2 %, of what
``python -m benchmarks.gpu_launches`` tried on an H200 (``benchmarks/gpu_launches.csv``): one stage leaves room for more
blocks at a time. The others have not been varied yet; those of wide neurons spill no registers on Hopper.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import triton

SMALLEST = 99 * 1024  # bytes of shared memory that a block may have on any GPU that has tensor-float-32
LARGE = 4096  # neurons of a set from which on blocks are large; small ones fill the GPU where there is little to do


@dataclass(frozen=True)
class Launch:
    """Rows and columns of a tile (for wide neurons its side and what is summed over at a time), warps and stages.

    ``shared`` are the bytes of shared memory of the largest variant as Triton 3.8 compiles it, for the tensor cores of
    Hopper (sm_90), whose operands lie in it, and for all others.
    """

    rows: int
    columns: int
    num_warps: int
    num_stages: int
    shared: tuple[int, int]

    def fits(self, limit: int, is_hopper: bool) -> bool:
        return self.shared[0 if is_hopper else 1] <= limit


# By the padded width and whether sets are large, the best first; the last fits every GPU. Columns divide rows.
PAIRS: dict[tuple[int, bool], tuple[Launch, ...]] = {
    (16, False): (Launch(64, 64, 4, 2, (40_960, 24_576)),),
    (32, False): (Launch(64, 64, 4, 2, (81_920, 49_152)),),
    (64, False): (Launch(64, 32, 4, 1, (49_152, 49_152)),),
    (64, True): (Launch(128, 64, 8, 1, (98_304, 98_304)),),
    (128, False): (Launch(64, 32, 4, 1, (98_304, 114_688)), Launch(64, 16, 4, 1, (90_112, 90_112))),
}
PAIRS[16, True] = PAIRS[32, True] = PAIRS[64, True]
PAIRS[128, True] = PAIRS[128, False]
# Of wide neurons: parts of the products, slopes and pushes, all of one tile's side.
PRODUCTS = Launch(64, 32, 4, 3, (57_344, 49_152))
SLOPES = Launch(64, 64, 8, 1, (16_384, 16_384))
PUSHES = Launch(64, 32, 4, 3, (57_344, 49_152))
EXACT = "tf32x3"  # how products are made of float32: by three on the tensor cores; "ieee" by ordinary arithmetic
PROGRAMS = 264  # that the products of wide neurons are divided into, at most, besides one for each pair of tiles
BLOCK = Launch(32, 32, 1, 1, (256, 256))  # of a triangular matrix: its sums stay within one warp
ROWS = Launch(4, 512, 4, 1, (64, 64))  # of neurons whose lengths are taken: those of a program, and columns at a time


def padded_width(width: int) -> int:
    """What the dimensions of narrow neurons are padded to."""
    return max(16, triton.next_power_of_2(width))


def pair_launches(count: int, width: int, device: torch.device) -> Iterator[Launch]:
    """The choices that fit the device, for sets of at most ``count`` neurons of a padded ``width``; the best first."""
    limit, is_hopper = shared_memory(device)
    return (one for one in PAIRS[width, count >= LARGE] if one.fits(limit, is_hopper))


def shared_memory(device: torch.device) -> tuple[int, bool]:
    """Bytes that a block may have, and whether the device has Hopper's tensor cores or later ones like them."""
    if device.type != "cuda":
        return 1 << 30, False  # Triton's interpreter
    properties = torch.cuda.get_device_properties(device)
    return getattr(properties, "shared_memory_per_block_optin", SMALLEST), properties.major in (9, 10)

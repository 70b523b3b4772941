"""Every choice of the launch table compiles for the GPUs there are, and takes the shared memory that it states."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ....forks import python

pytest.importorskip("triton", reason="there is no Triton for this platform")
launches = pytest.importorskip("comhe.regularizers.energies.kernels.launches")
pairs = pytest.importorskip("comhe.regularizers.energies.kernels.pairs")

LIMITS = {80: 163 * 1024, 89: 99 * 1024, 90: 227 * 1024}  # bytes of shared memory that a block may have


def choices(architecture):
    """Each launch of the table that fits, with a kernel it is of, its stages and its compile-time sizes."""
    found = []
    for (width, _), options in launches.PAIRS.items():
        for launch in options:
            if launch.fits(LIMITS[architecture], architecture == 90):
                sizes = {"ROWS": launch.rows, "COLUMNS": launch.columns, "WIDTH": width}
                found.append((launch, "pairs._pairs_kernel", launch.num_stages, sizes))
                found.append((launch, "pairs._near_kernel", 1, sizes))
                found.append((launch, "pairs._unit_kernel", 1, sizes))
    for kernel, launch in (("product", launches.PRODUCTS), ("slope", launches.SLOPES), ("push", launches.PUSHES)):
        sizes = {"TILE": launch.rows, "CHUNK": launch.columns}
        found.append((launch, f"wide._{kernel}_kernel", launch.num_stages, sizes))
    for kernel in ("square", "limit", "shorten"):
        sizes = {"ROWS": launches.ROWS.rows, "COLUMNS": launches.ROWS.columns}
        found.append((launches.ROWS, f"bound._{kernel}_kernel", 1, sizes))
    for is_factor in (True, False):
        found.append((launches.BLOCK, "cholesky._block_kernel", 1, {"SIZE": launches.BLOCK.rows, "FACTOR": is_factor}))
    return [choice for i, choice in enumerate(found) if choice not in found[:i]]


def compiled(architecture, chosen):
    """Compile what is chosen, and return the numbers of products on Hopper's tensor cores."""
    jobs = [
        (name, architecture, sizes, {"num_warps": launch.num_warps, "num_stages": stages})
        for launch, name, stages, sizes in chosen
    ]
    script = Path(__file__).with_name("compiled.py")
    made = python(script, json.dumps(jobs), env=os.environ | {"TRITON_INTERPRET": "0"})
    assert made.returncode == 0, made.stderr
    found = [tuple(map(int, line.split())) for line in made.stdout.splitlines()]
    assert len(found) == len(jobs)
    for (launch, name, *_), (shared, _) in zip(chosen, found, strict=True):
        stated = launch.shared[0 if architecture == 90 else 1]
        assert shared <= stated <= LIMITS[architecture], f"{name} of {launch}: {shared} bytes on sm_{architecture}"
    return [products for _, products in found]


def test_the_first_choice_compiles_for_hopper():
    """What the interpreter cannot see: types and layouts. The products go to the tensor cores, the tiles fit."""
    first = [one for one in choices(90) if one[0] is launches.PAIRS[64, False][0]]
    (products,) = compiled(90, first[:1])
    assert products > 0


def test_the_widest_compiles_for_a_consumers_gpu():
    widest = [one for one in choices(89) if one[-1].get("WIDTH") == 128 and one[1] == "pairs._pairs_kernel"]
    compiled(89, widest)


@pytest.mark.long
@pytest.mark.parametrize("architecture", LIMITS)
def test_all_choices_compile_and_fit(architecture):
    compiled(architecture, choices(architecture))


@pytest.mark.parametrize("limit", [*LIMITS.values(), launches.SMALLEST])
@pytest.mark.parametrize("is_hopper", [False, True])
def test_every_gpu_has_a_choice_for_every_width(monkeypatch, limit, is_hopper):
    properties = SimpleNamespace(shared_memory_per_block_optin=limit, major=9 if is_hopper else 8)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    for width in (1, 16, 17, 40, 64, 65, 128):
        for count in (2, launches.LARGE):
            found = list(launches.pair_launches(count, launches.padded_width(width), torch.device("cuda")))
            assert found, f"{count} neurons of {width} dimensions"
            assert all(one.rows % one.columns == 0 for one in found)  # padding of a set is whole blocks of rows
    wide = (launches.PRODUCTS, launches.SLOPES, launches.PUSHES)
    assert all(launch.fits(limit, is_hopper) for launch in (*wide, launches.BLOCK))
    assert len({launch.rows for launch in wide}) == 1  # tables are made for one side


def test_what_takes_more_memory_than_stated_gives_way_to_the_next(normal, device, monkeypatch):
    from comhe.regularizers.energies.potential import Potential
    from comhe.regularizers.energies.terms import Terms

    tried, launched = [], pairs._launched

    def too_much(neurons, shapes, width, launch, *rest):
        tried.append(launch)
        if len(tried) == 1:
            raise pairs.OutOfResources(200_000, 101_376, "shared memory")
        return launched(neurons, shapes, width, launch, *rest)

    w = normal(1, 9, 100, dtype=torch.float32).to(device)
    (expected,), _ = pairs.pair_sums([w], Terms(Potential(2.0, False, True)), None, True)
    monkeypatch.setattr(pairs, "_launched", too_much)
    (found,), _ = pairs.pair_sums([w], Terms(Potential(2.0, False, True)), None, True)
    assert tried == list(launches.PAIRS[128, False])
    torch.testing.assert_close(found, expected)

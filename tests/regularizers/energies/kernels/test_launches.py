"""Every choice of the launch table compiles for the GPUs there are, and takes the shared memory that it states."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("triton", reason="there is no Triton for this platform")
launches = pytest.importorskip("comhe.regularizers.energies.kernels.launches")
pairs = pytest.importorskip("comhe.regularizers.energies.kernels.pairs")

LIMITS = {80: 163 * 1024, 89: 99 * 1024, 90: 227 * 1024}  # bytes of shared memory that a block may have


def choices(architecture):
    """Each launch of the table that fits, with the kernels it is of and their compile-time sizes."""
    is_hopper = architecture == 90
    for (width, _), options in launches.PAIRS.items():
        for launch in options:
            if launch.fits(LIMITS[architecture], is_hopper):
                sizes = {"ROWS": launch.rows, "COLUMNS": launch.columns, "WIDTH": width}
                yield launch, {"pairs._pairs_kernel": launch.num_stages, "pairs._near_kernel": 1}, sizes
    sizes = {"TILE": launches.WIDE.rows, "CHUNK": launches.WIDE.columns}
    stages = launches.WIDE.num_stages
    yield launches.WIDE, {"wide._gram_kernel": stages, "wide._push_kernel": stages}, sizes
    for is_factor in (True, False):
        sizes = {"SIZE": launches.BLOCK.rows, "FACTOR": is_factor}
        yield launches.BLOCK, {"cholesky._block_kernel": 1}, sizes


def compiled(architecture, launch, kernels, sizes):
    jobs = [
        (name, architecture, sizes, {"num_warps": launch.num_warps, "num_stages": stages})
        for name, stages in kernels.items()
    ]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), "HOME": str(Path.home())}
    script = Path(__file__).with_name("compiled.py")
    made = subprocess.run(
        [sys.executable, "-W", "ignore", script, json.dumps(jobs)], capture_output=True, text=True, env=environment
    )
    assert made.returncode == 0, made.stderr
    found = [tuple(map(int, line.split())) for line in made.stdout.splitlines()]
    assert len(found) == len(jobs)
    stated = launch.shared[0 if architecture == 90 else 1]
    largest = max(shared for shared, _ in found)
    assert largest <= stated <= LIMITS[architecture], f"{launch} takes {largest} bytes on sm_{architecture}"
    return found


def test_the_first_choice_compiles_for_hopper():
    """What the interpreter cannot see: types and layouts. The products go to the tensor cores, the tiles fit."""
    launch = launches.PAIRS[64, False][0]
    sizes = {"ROWS": launch.rows, "COLUMNS": launch.columns, "WIDTH": 64}
    ((_, products),) = compiled(90, launch, {"pairs._pairs_kernel": launch.num_stages}, sizes)
    assert products > 0


def test_the_widest_compiles_for_a_consumers_gpu():
    launch, *_ = [one for one in launches.PAIRS[128, False] if one.fits(LIMITS[89], False)]
    sizes = {"ROWS": launch.rows, "COLUMNS": launch.columns, "WIDTH": 128}
    compiled(89, launch, {"pairs._pairs_kernel": launch.num_stages}, sizes)


@pytest.mark.long
@pytest.mark.parametrize("architecture", LIMITS)
def test_all_choices_compile_and_fit(architecture):
    seen = set()
    for launch, kernels, sizes in choices(architecture):
        key = (launch, tuple(sizes.items()))
        if key not in seen:
            seen.add(key)
            compiled(architecture, launch, kernels, sizes)
    sizes = {"ROWS": 64, "WIDTH": 128}
    compiled(architecture, launches.WIDE, {"pairs._unit_kernel": 1}, sizes)


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
    wanted = [(launches.WIDE, limit), (launches.BLOCK, limit)]
    assert all(launch.fits(limit, is_hopper) for launch, limit in wanted)


def test_what_takes_more_memory_than_stated_gives_way_to_the_next(normal, device, monkeypatch):
    from comhe.regularizers.energies.potential import Potential
    from comhe.regularizers.energies.terms import Terms

    tried, launched = [], pairs._launched

    def too_much(neurons, shapes, width, launch, *rest):
        tried.append(launch)
        if launch.num_stages == 2:
            raise pairs.OutOfResources(200_000, 101_376, "shared memory")
        return launched(neurons, shapes, width, launch, *rest)

    w = normal(1, 9, 50, dtype=torch.float32).to(device)
    (expected,), _ = pairs.pair_sums([w], Terms(Potential(2.0, False, True)), None, True)
    monkeypatch.setattr(pairs, "_launched", too_much)
    (found,), _ = pairs.pair_sums([w], Terms(Potential(2.0, False, True)), None, True)
    assert [launch.num_stages for launch in tried] == [2, 1]
    torch.testing.assert_close(found, expected)

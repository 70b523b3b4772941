"""What this machine offers: cores and how many threads use them, GPUs, units for bfloat16."""

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch.nn import functional as F

from comhe.errors import UsageError, check_at_least, first_line, warn

_processes = 1  # that share the cores with this one, itself included
EXPLICIT = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # who sets one of these has chosen the number of threads


def usable_cores() -> int:
    """Return how many cores this process may use: by its affinity, and by the quota of its container.

    Example:
        >>> 1 <= usable_cores() <= os.cpu_count()
        True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(cores, _quota(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")))))


def _quota(root: Path, membership: Path) -> float:
    """The cores that the process's control groups (version 2, or 1) leave it, infinity if they say nothing."""
    least = float("inf")
    for line in membership.read_text().splitlines() if membership.exists() else ():
        _, controllers, own = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "cpu" if controllers else root
        path = base / own.lstrip("/")
        for group in (path, *path.parents):  # a container may not see the path, but the root that it is given
            if group == base.parent:
                break
            least = min(least, _limit(group))
    return least


def _limit(group: Path) -> float:
    """The quota of one control group, in cores."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return float(quota) / float(period) if quota not in ("max", "-1") else float("inf")
    except (OSError, ValueError):
        return float("inf")


def share_of_cores() -> int:
    """Return how many of the usable cores are left to this process by other jobs and by other ranks of torchrun.

    Example:
        >>> with limited_threads(processes=2):
        ...     share_of_cores() == max(1, usable_cores() // 2)
        True
    """
    return max(1, usable_cores() // (_processes * int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


def set_threads(number: int | None) -> None:
    """Let every operation on the CPU, in processes started from here on as well, use so many threads; None changes
    nothing.

    Example:
        >>> set_threads(None)
    """
    if number is not None:
        check_at_least("threads", number, 1)
        os.environ["OMP_NUM_THREADS"] = str(number)
        torch.set_num_threads(number)


@contextmanager
def limited_threads(most: int | None = None, processes: int = 1) -> Iterator[int]:
    """Use no more threads than help: yields their number, and restores the former one.

    They are the usable cores, shared by so many ``processes``, and not more than ``most``. Who has set
    ``OMP_NUM_THREADS`` (or ``--threads``) gets that many; a number that :func:`torch.set_num_threads` lowered is not
    raised.

    Example:
        >>> with limited_threads(most=1) as threads:
        ...     threads == torch.get_num_threads()
        True
    """
    global _processes
    before = torch.get_num_threads(), _processes
    _processes = max(processes, _processes)
    if not any(os.environ.get(name) for name in EXPLICIT):
        share = max(1, usable_cores() // processes)
        torch.set_num_threads(min(before[0], share, share if most is None else most))
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before[0])
        _processes = before[1]


def choose_device(device: str = "auto") -> str:
    """Return the device, ``"cuda"`` for ``"auto"`` where there is a GPU, else ``"cpu"``.

    Raises:
        UsageError: torch cannot use it.

    Example:
        >>> choose_device("cpu")
        'cpu'
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.Generator(torch.empty(0, device=device).device)  # no meta tensors
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error)
        raise UsageError(f"device {device!r} cannot be used: {reason}") from error
    return device


@cache
def has_bf16(kind: str) -> bool:
    """Whether devices of this kind, ``"cpu"`` or ``"cuda"``, multiply bfloat16 numbers in hardware.

    Example:
        >>> has_bf16("cpu") in (True, False)
        True
    """
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else _flags()
    return kind == "cpu" and any(found.get(unit) for unit in ("avx512_bf16", "amx_bf16", "amx_tile", "bf16"))


def _flags() -> dict[str, bool]:
    """The units that Linux lists, for versions of torch that do not tell."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return {flag: True for line in lines if line.startswith(("flags", "Features")) for flag in line.split()[2:]}


def uses_bf16(precision: str, device: str | torch.device) -> bool:
    """Whether a network's forward pass runs in bfloat16 on the device; ``"auto"`` means where it has the units.

    An explicit ``"bf16"`` without them warns, with the factor that it costs.

    Example:
        >>> uses_bf16("fp32", "cpu")
        False
    """
    kind = torch.device(device).type
    if precision == "bf16" and not has_bf16(kind):
        what = (
            f"this {kind} has no units for bf16: a convolution takes {_bf16_factor(kind):.0f} times as long as in fp32"
        )
        warn(f"{what}; precision auto or fp32 is faster")
    return precision == "bf16" or (precision == "auto" and has_bf16(kind))


@cache
def _bf16_factor(kind: str) -> float:
    """Time of a convolution in bf16 over that in fp32, forward and backward."""
    times = []
    for dtype in (torch.float32, torch.bfloat16):
        x, w = (torch.ones(shape, dtype=dtype, device=kind) for shape in ((32, 64, 16, 16), (64, 64, 3, 3)))
        samples = []
        for _ in range(3):
            start = time.perf_counter()
            F.conv2d(x, w.requires_grad_(), padding=1).sum().backward()
            samples.append(time.perf_counter() - start)
        times.append(min(samples))
    return times[1] / times[0]


def processor() -> str:
    """Return the processor's name if the system tells it, else its architecture."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor() or platform.machine()

"""The first half hour with a GPU, as one command: what is right first, then how fast it is.

    python benchmarks/gpu_session.py --out /tmp/gpu                       # on the GPU, in thirty minutes at most
    python benchmarks/gpu_session.py --out /tmp/gpu --minutes 9 --steps probe kernels steps
    python benchmarks/gpu_session.py --out /tmp/gpu --rehearse            # the same on the CPU, as far as it goes

It needs no installation: the package is a folder of links. Each step has a limit of time and a log, and OUT.tar.gz is
written anew after each. If the probe or a test fails, no timing follows; ``--go-on`` takes the steps that are left.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("datasets", "regularizers", "train", "zoo")


@dataclass(frozen=True)
class Step:
    """A command of Python's with its limit in seconds, and what is run instead in a rehearsal; none: it is left out.

    ``{out}``, ``{data}`` and ``{left}`` (seconds of the session) are filled in.
    """

    name: str
    seconds: int
    command: tuple[str, ...]
    rehearsal: tuple[str, ...] = ()
    proves: bool = False  # whether timings mean nothing if it fails


PYTEST = ("-m", "pytest", "-q", "-n", "6", "--maxfail=30", "--durations=5", "-p", "no:cacheprovider")
GPU, CPU = ("-m", "benchmarks.gpu"), ("--tiny", "--device", "cpu")
KERNELS = ("tests/regularizers/energies/kernels", "tests/regularizers/energies/test_span.py")
TRAINING = ("tests/train/engine/test_capture.py", "tests/train/engine/test_step.py", "tests/train/engine/test_ema.py")
OTHERS = ("tests/zoo/graphs", "tests/datasets/images", "tests/benchmarks")
STEPS = (
    Step("probe", 90, ("-m", "benchmarks.gpu_probe"), ("-m", "benchmarks.gpu_probe", "--device", "cpu"), True),
    Step("kernels", 240, (*PYTEST, *KERNELS), (*PYTEST, KERNELS[0] + "/test_cholesky.py"), True),
    Step("steps", 240, (*PYTEST, *TRAINING), (*PYTEST, TRAINING[0]), True),
    Step("others", 180, (*PYTEST, *OTHERS), (*PYTEST, "tests/benchmarks/test_gpu.py", "-k", "queue")),
    Step("numerics", 120, (*GPU, "numerics", "--out", "{out}"), (*GPU, "ceilings", *CPU)),
    Step("energy", 120, (*GPU, "ceilings", "energy", "--rounds", "15", "--out", "{out}"), (*GPU, "energy", *CPU)),
    Step(
        "penalty",
        360,
        (*GPU, "penalty", "--rounds", "10", "--out", "{out}"),
        (*GPU, "penalty", "--networks", "gcn512", "--rounds", "1", *CPU),
    ),
    Step(
        "alone",
        90,
        (*GPU, "alone", "--rounds", "10", "--out", "{out}"),
        (*GPU, "alone", "--networks", "gcn512", "--rounds", "1", *CPU),
    ),
    Step("profile", 60, (*GPU, "profile", "--out", "{out}"), (*GPU, "profile", *CPU)),
    Step("points", 120, (*GPU, "points", "--rounds", "15", "--out", "{out}"), (*GPU, "points", *CPU)),
    Step("training", 150, (*GPU, "training", "--out", "{out}"), (*GPU, "training", *CPU)),
    Step(
        "launches",
        180,
        ("-m", "benchmarks.gpu_launches", "--out", "{out}/gpu_launches.csv"),
        ("-m", "benchmarks.gpu_launches", "--tiny", "--device", "cpu", "--rounds", "1"),
    ),
    Step(  # real data: accuracies, no times
        "queue",
        1800,
        ("-m", "benchmarks.gpu_queue", "--jobs", "3", "--budget", "{left}s", "--runs", "{out}/runs"),
        ("-m", "benchmarks.gpu_queue", "--help"),
    ),
)


def main(argv: Sequence[str] | None = None, steps: Sequence[Step] = STEPS) -> int:
    """Return how many steps failed or were cut off."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [step.name for step in steps]
    parser.add_argument("--out", type=Path, required=True, help="folder for logs and tables; beside it the archive")
    parser.add_argument("--minutes", type=float, default=30.0, help="for everything")
    parser.add_argument("--steps", nargs="+", choices=names, default=names, metavar="STEP", help=", ".join(names))
    parser.add_argument("--data-root", help="of CIFAR-100 and ModelNet-40; without it the queue is left out")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU; figures mean nothing")
    parser.add_argument("--go-on", action="store_true", help="to timings even if the probe or a test fails")
    flags = parser.parse_args(argv)
    flags.out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * flags.minutes
    environment = package(flags.out.resolve() / "package") | ({"TRITON_INTERPRET": "1"} if flags.rehearse else {})
    failures = 0
    for step in steps:
        left = deadline - time.monotonic() - 20  # for the archive
        command = step.rehearsal if flags.rehearse else step.command
        if step.name not in flags.steps or not command:
            continue
        if step.name == "queue" and not (flags.data_root or flags.rehearse):
            print("queue: left out, no --data-root", flush=True)
            continue
        if left < 10:
            print(f"{step.name}: no time is left", flush=True)
            failures += 1
            continue
        limit = min(step.seconds, left)
        filled = [part.format(out=flags.out.resolve(), left=int(limit - 15)) for part in command]
        if step.name == "queue" and flags.data_root and not flags.rehearse:
            filled += ["--data-root", flags.data_root]
        began = time.monotonic()
        status = run([sys.executable, *filled], flags.out / f"{step.name}.log", limit, environment)
        print(f"{step.name}: {status}, {time.monotonic() - began:.0f} s", flush=True)
        failures += status != "done"
        archive(flags.out)
        if status != "done" and step.proves and not flags.go_on:
            print("what follows would mean nothing: mend this first, or give --go-on", flush=True)
            break
    return failures


def package(folder: Path) -> dict[str, str]:
    """Return an environment in which Python finds the package, in a folder of links, and the benchmarks."""
    target = folder / "comhe"
    target.mkdir(parents=True, exist_ok=True)
    sources = [path for path in (ROOT / "comhe").iterdir() if path.name != "__pycache__"]
    for path in (*sources, *(ROOT / name for name in FOLDERS)):
        _link(target / path.name, path)
    _link(folder / "benchmarks", ROOT / "benchmarks")
    known = os.environ.get("PYTHONPATH", "")
    paths = {"PYTHONPATH": f"{folder}:{known}".rstrip(":"), "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
    return {**os.environ, "TRITON_CACHE_DIR": str(folder / "triton"), **paths}


def _link(path: Path, target: Path) -> None:
    if not path.is_symlink():
        path.symlink_to(target)


def run(command: list[str], log: Path, seconds: float, environment: dict[str, str]) -> str:
    """Run a command and all it starts, for so long at most; return how it ended, and show its log's end if badly."""
    with log.open("w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, env=environment, start_new_session=True
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)  # runs leave a checkpoint
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            return f"cut off after {seconds:.0f} s"
    if code:
        print("\n".join(log.read_text().splitlines()[-25:]), flush=True)
    return f"failed with {code}" if code else "done"


def archive(out: Path) -> Path:
    """Write everything but checkpoints, links and compiled kernels to one file beside the folder."""
    path = out.with_name(out.name + ".tar.gz")
    partial = path.with_suffix(".partial")
    with tarfile.open(partial, "w:gz") as file:
        for item in sorted(out.rglob("*")):
            inside = item.relative_to(out)
            if item.is_file() and inside.parts[0] != "package" and item.suffix != ".pt":
                file.add(item, Path(out.name) / inside)
    return partial.replace(path)


if __name__ == "__main__":
    sys.exit(min(main(), 1))

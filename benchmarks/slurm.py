"""Comparisons as jobs of a real SLURM, whose only node is this machine: what is done, cut, cancelled and refused.

    python -m benchmarks.slurm --out benchmarks/slurm.csv

Every row is a command that did what its row says; the first thing that is otherwise ends the script. ``slurm_node.sh``
starts SLURM, which needs Debian's packages slurm-wlm and munge, or their like.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import submitit

from .output import save

NODE = Path(__file__).with_name("slurm_node.sh")
COMPARE = "compare --models gcn --data citations"
SLURM = "--cluster slurm --cluster-options time=20"
PARTS = ("arrays", "signals")
PATIENCE = 300.0  # seconds for anything that is waited for


class Trial:
    """Runs commands in a folder, and keeps a row for each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows = folder, list[dict[str, Any]]()
        self.began = time.monotonic()

    def start(self, line: str) -> subprocess.Popen[str]:
        self.began = time.monotonic()
        argv = [sys.executable, "-P", "-m", "comhe", *line.split()]
        return subprocess.Popen(argv, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end(self, process: subprocess.Popen[str], line: str, what: str, status: int, *parts: str) -> str:
        """Add a row once a command has ended with a status and a text that has all the parts; return the text."""
        text = "".join(process.communicate(timeout=PATIENCE))
        if process.returncode != status or not all(part in text for part in parts):
            raise SystemExit(f"{line}\nended with {process.returncode}, not with {status} and {parts}:\n{text}")
        row = {"what": what, "command": f"comhe {line}", "status": status, "seconds": time.monotonic() - self.began}
        self.rows.append(row)
        print(f"{row['seconds']:6.1f} s  {what}", flush=True)
        return text

    def call(self, line: str, what: str, status: int, *parts: str) -> str:
        return self.end(self.start(line), line, what, status, *parts)

    def run(self, runs: str, label: str) -> Path:
        return self.folder / runs / "kipf" / label / "seed0"

    def same(self, runs: str) -> None:
        """All runs of a folder have the bits of those that were trained without SLURM."""
        found = sorted((self.folder / runs / "kipf").glob("*/seed*"))
        if not found:
            raise SystemExit(f"no runs in {runs}")
        for run in found:
            for name in ("last.safetensors", "best.safetensors", "metrics.csv"):
                here = self.folder / "here" / run.relative_to(self.folder / runs) / name
                if here.read_bytes() != (run / name).read_bytes():
                    raise SystemExit(f"{run / name} differs from {here}")


def queue(form: str = "%i") -> str:
    command = ["squeue", "--me", "--noheader", "--array", f"--format={form}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def wait_for(condition: Callable[[], Any], what: str) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > until:
            raise SystemExit(f"waited in vain for {what}")
        time.sleep(0.02)


def release(job: str) -> bool:
    """Spare a job that is queued again the two minutes that SLURM lets it wait."""
    command = ["scontrol", "update", f"JobId={job}", "StartTime=now"]
    return queue("%T") == "PENDING" and subprocess.run(command, capture_output=True).returncode == 0


def trials(folder: Path, parts: Sequence[str]) -> list[dict[str, Any]]:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background process hands on that it ignores it
    trial = Trial(folder)
    if "arrays" in parts:
        arrays(trial)
    if "signals" in parts:
        signals(trial)
    version = subprocess.run(["sinfo", "--version"], check=True, capture_output=True, text=True).stdout.strip()
    return [row | {"slurm": version, "submitit": submitit.__version__} for row in trial.rows]


def scripts(folder: Path) -> int:
    return len(list((folder / "jobs").glob("*_submission.sh")))


def arrays(trial: Trial) -> None:
    """Jobs that nothing happens to, such as fail, and such as SLURM does not take."""
    short = f"{COMPARE} --regularizers none,hs-mhe --seeds 2 --settings epochs=3 --runs"
    trial.call(f"{short} here --jobs 1", "on this machine, without SLURM", 0)
    one = f"{short} one {SLURM}"
    trial.call(one, "one job for each run, in an array", 0, "4 jobs submitted", "run 4/4", "95 % interval")
    trial.same("one")
    text = trial.call(one, "the same command again submits nothing", 0, "95 % interval")
    if "submitted" in text or scripts(trial.folder / "one") != 1:
        raise SystemExit(f"something was submitted again:\n{text}")
    trial.call(f"{short} packed {SLURM} --per-job 4", "one packed job", 0, "1 jobs submitted", "run 4/4")
    trial.same("packed")
    trial.call(f"{short} later {SLURM} --submit-only", "only submitted", 0, "4 jobs submitted", "4 runs are not done")
    trial.call(f"{short} later {SLURM}", "the same command waits", 0, "0 jobs submitted, 4 under way", "run 4/4")
    trial.same("later")
    bad = f"{COMPARE} --regularizers none --seeds 1 --settings lr=1e30 epochs=3 --runs bad {SLURM}"
    trial.call(bad, "a run that diverges: one line with the log", 2, "DivergedError", "_log.err")
    refused = f"{short} refused --cluster slurm --cluster-options partition=nowhere"
    trial.call(refused, "a partition that does not exist: one line", 2, "SLURM does not take the jobs: ")


def signals(trial: Trial) -> None:
    """Jobs that are left alone, cut or cancelled while they train."""
    for what, epochs in (("requeued", 401), ("cancelled", 402), ("stopped", 403)):
        label = f"gcn.citations-none+epochs={epochs}"
        line = f"{COMPARE} --regularizers none --seeds 1 --settings epochs={epochs} --runs"
        trial.call(f"{line} here --jobs 1", f"{epochs} epochs without SLURM", 0)
        process = trial.start(line := f"{line} {what} {SLURM}")
        run = trial.run(what, label)
        wait_for(queue, "a job in the queue")
        job = queue()
        wait_for((run / "recipe.json").exists, run / "recipe.json")
        if what == "requeued":
            subprocess.run(["scancel", "--signal=USR2", job], check=True)
            wait_for(lambda: queue("%T") == "PENDING", "the job to be queued again")
            saved(run)
            wait_for(lambda job=job: release(job), f"job {job} to be released")
            trial.end(process, line, "the signal before the end of its time: saved, queued again, done", 0, "run 1/1")
        elif what == "cancelled":
            subprocess.run(["scancel", job], check=True)
            log = f"job {job} has ended without a result; see {trial.folder}/cancelled/jobs/{job}_0_log.err"
            trial.end(process, line, "scancel: saved, and one line with the log", 2, f"failed: {label} seed 0: {log}")
            saved(run)
            trial.call(line, "the same command goes on with it", 0, "1 jobs submitted", "run 1/1")
        else:
            process.send_signal(signal.SIGINT)
            trial.end(process, line, "Ctrl-C while waiting leaves the job", 130, f"scancel {job} ends them")
            trial.call(line, "the same command waits for it, and submits nothing", 0, "95 % interval")
            if scripts(trial.folder / what) != 1:
                raise SystemExit(f"{what} was submitted again")
        trial.same(what)


def saved(run: Path) -> None:
    if not (run / "checkpoint.pt").exists():
        raise SystemExit(f"{run} was not saved")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside is not None:
        return save(options.out, trials(options.inside, options.parts))
    with tempfile.TemporaryDirectory() as folder:
        out = [] if options.out is None else ["--out", str(options.out)]
        inside = [sys.executable, "-m", "benchmarks.slurm", "--inside", folder, "--parts", *options.parts, *out]
        node = ["bash", str(NODE), f"{folder}/node", *inside]
        # Settings of a job that this script may itself be part of are not those of its own jobs.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        sys.exit(subprocess.run(node, env=kept).returncode)


if __name__ == "__main__":
    main()

"""Comparisons as jobs of a real SLURM, where one is installed."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("slurmctld", path=f"{os.environ['PATH']}:/usr/sbin"), reason="needs slurm-wlm")
def test_jobs_of_slurm_end_as_runs_of_this_machine(tmp_path, tally):
    pytest.importorskip("submitit")
    argv = [sys.executable, "-m", "benchmarks.slurm", "--out", str(tmp_path / "slurm.csv")]
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
    done = subprocess.run(argv, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with (tmp_path / "slurm.csv").open() as file:
        next(file)
        rows = list(csv.DictReader(file))
    assert len(rows) >= 16
    for row in rows:
        tally(f"compare --cluster slurm: {row['what']}", "as it says")

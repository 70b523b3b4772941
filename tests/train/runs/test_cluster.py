"""Jobs: what is submitted, waited for and told, with stand-ins for SLURM's commands; and submitit's local jobs."""

import json
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from comhe.errors import RunError, UsageError
from comhe.train import Cluster, Run, compare, fit
from comhe.train.plugins import load_plugins
from comhe.train.runs import cluster as module
from comhe.train.runs.interruption import Interrupted, handled
from comhe.train.runs.run import run_folder

submitit = pytest.importorskip("submitit")

SBATCH = """#!/bin/sh
cp "$1" "$QUEUE/script"
test -e "$QUEUE/refusal" && cat "$QUEUE/refusal" >&2 && exit 1
echo "Submitted batch job 7"
"""
SQUEUE = """#!/bin/sh
test -e "$QUEUE/silent" && exit 1
cat "$QUEUE/queue"
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder with what the queue lists, where the script of what was submitted is put."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE), ("srun", "")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "queue").touch()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("QUEUE", str(folder))
    for name, seconds in (("POLL", 0.01), ("QUEUE_POLL", 0.01), ("LAG", 0.1)):
        monkeypatch.setattr(module, name, seconds)
    return folder


@pytest.fixture
def recipes(recipe):
    return [recipe.replace(epochs=2, seed=seed) for seed in range(3)]


def train(cluster, recipes, runs, progress=lambda *line: None):
    return cluster.train_all(recipes, runs, None, "cpu", 1, progress, setup=partial(load_plugins, ("json",)))


def finish(executor_folder, job, lines=()):
    """Do what the job does, in this process, and leave its result where submitit does."""
    work = submitit.SlurmJob(executor_folder, job).submission().function
    for text in work.recipes:
        fit(module.read_recipe(text), runs=work.runs)
    result = submitit.SlurmJob(executor_folder, job).paths.result_pickle
    submitit.core.utils.cloudpickle_dump(("success", list(lines)), result)


def test_a_job_for_each_run_is_submitted_with_the_options(slurm, recipes, tmp_path):
    options = {"partition": "gpu", "time": 90, "cpus_per_task": 4, "setup": "module load cuda", "reservation": "mine"}
    assert train(Cluster("slurm", options, wait=False), recipes, tmp_path / "runs") == []
    script = (slurm / "script").read_text()
    for line in ("partition=gpu", "time=90", "cpus-per-task=4", "reservation=mine", "requeue", "array=0-2%3"):
        assert f"#SBATCH --{line}\n" in script
    assert "\nmodule load cuda\n" in script
    assert "srun --unbuffered" in script
    assert " --cpus-per-task=4 " in script.splitlines()[-1]
    jobs = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "runs" / "jobs").glob("*.json")}
    assert jobs == {f"7_{i}": [run_folder(Path(), recipes[i]).as_posix()] for i in range(3)}
    assert not [path for path in (tmp_path / "runs").iterdir() if path.name != "jobs"]


def test_what_is_in_the_queue_is_waited_for_and_the_rest_submitted(slurm, recipes, tmp_path):
    runs, jobs = tmp_path / "runs", tmp_path / "runs" / "jobs"
    train(Cluster("slurm", wait=False), recipes[:2], runs)
    (slurm / "script").unlink()
    (slurm / "queue").write_text("7_0\n7_1\n")  # both wait
    lines = []
    train(Cluster("slurm", wait=False), recipes[:2], runs, lambda *line: lines.append(line))
    assert "0 jobs submitted, 2 under way before" in lines[0][2]
    assert not (slurm / "script").exists()

    def progress(done, total, text):
        lines.append((done, total, text))
        if done == 0:
            finish(jobs, "7_0")
            finish(jobs, "7_1")

    lines.clear()
    assert train(Cluster("slurm"), recipes[:2], runs, progress) == []
    assert [line[:2] for line in lines] == [(0, 2), (1, 2), (2, 2)]
    assert train(Cluster("slurm"), recipes[:2], runs, progress) == []  # all done
    assert len(lines) == 3
    train(Cluster("slurm", wait=False), recipes, runs, progress)
    assert "1 jobs submitted, 0 under way" in lines[-1][2]


def test_packed_jobs(slurm, recipes, tmp_path):
    train(Cluster("slurm", per_job=2, wait=False), recipes, tmp_path)
    assert sorted(len(json.loads(path.read_text())) for path in (tmp_path / "jobs").glob("*.json")) == [1, 2]


def test_failures_name_the_run_and_the_log(slurm, recipes, tmp_path):
    def progress(done, total, text):
        if done == 0:
            name = f"{recipes[1].label} seed 1"
            finish_two(name)
        told.append(text)

    def finish_two(name):
        work = submitit.SlurmJob(tmp_path / "jobs", "7_0").submission().function
        fit(module.read_recipe(work.recipes[0]), runs=tmp_path)
        for job, result in (("7_0", []), ("7_1", [f"{name}: it diverged"])):
            path = submitit.SlurmJob(tmp_path / "jobs", job).paths.result_pickle
            submitit.core.utils.cloudpickle_dump(("success", result), path)

    told = []
    failures = train(Cluster("slurm"), recipes, tmp_path, progress)  # the third job has left the queue
    log = tmp_path / "jobs" / "7_{}_0_log.err"
    assert sorted(failures) == sorted(
        [
            f"{recipes[1].label} seed 1: it diverged; see {str(log).format(1)}",
            f"{recipes[2].label} seed 2: job 7_2 has ended without a result; see {str(log).format(2)}",
        ]
    )
    assert {text for text in told if text.startswith("failed")} == {f"failed: {line}" for line in failures}


def test_a_job_that_breaks_is_one_line_for_each_of_its_runs(slurm, recipes, tmp_path):
    def progress(done, total, text):
        if done == 0:
            path = submitit.SlurmJob(tmp_path / "jobs", "7").paths.result_pickle
            trace = "Traceback (most recent call last):\n  ...\nUsageError: the module 'mine' cannot be imported\n"
            submitit.core.utils.cloudpickle_dump(("error", trace), path)

    failures = train(Cluster("slurm", per_job=2), recipes[:2], tmp_path, progress)
    assert [line.split(";")[0] for line in failures] == [
        f"{recipe.label} seed {recipe.seed}: UsageError: the module 'mine' cannot be imported" for recipe in recipes[:2]
    ]


def test_stopping_leaves_the_jobs_of_slurm(slurm, recipes, tmp_path):
    (slurm / "queue").write_text("7_0\n7_1\n7_2\n")

    def progress(done, total, text):
        raise Interrupted(signal.SIGTERM)

    with pytest.raises(Interrupted, match=r"3 jobs, which stay in the queue \(scancel 7 ends them\)") as stopped:
        train(Cluster("slurm"), recipes, tmp_path, progress)
    assert stopped.value.signum == signal.SIGTERM


def test_what_slurm_says_is_told(slurm, recipes, tmp_path, monkeypatch):
    lines = ("invalid partition specified: gpuu", "Batch job submission failed")
    (slurm / "refusal").write_text("".join(f"sbatch: error: {line}\n" for line in lines))
    with pytest.raises(RunError, match="does not take the jobs: invalid partition specified: gpuu"):
        train(Cluster("slurm", {"partition": "gpuu"}), recipes, tmp_path)
    (slurm / "refusal").unlink()
    train(Cluster("slurm", wait=False), recipes, tmp_path)
    (slurm / "silent").touch()
    with pytest.raises(RunError, match="squeue does not answer"):
        train(Cluster("slurm"), recipes, tmp_path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="no SLURM on this machine"):
        train(Cluster("slurm"), recipes, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "pbs"}, "cluster must be"),
        ({"per_job": 0}, "per_job must be at least 1"),
        ({"options": {"time": "1-00:00:00"}}, "whole number of minutes, not '1-00:00:00'"),
        ({"options": {"nodes": 2}}, "leave nodes out"),
        ({"name": "local", "wait": False}, "local jobs end with this command"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        Cluster(**arguments)


def test_debug_trains_in_this_process_what_compare_trains(tmp_path, in_process):
    arguments = ("gcn", "citations", "none,hs-mhe", 2)
    here = compare(*arguments, settings={"epochs": 2}, runs=tmp_path / "here")
    there = compare(*arguments, settings={"epochs": 2}, runs=tmp_path / "there", cluster=Cluster("debug"))
    assert len(in_process) == 8
    figures = [[{k: v for k, v in r.items() if "test" in k or "val" in k} for r in c.records] for c in (here, there)]
    assert figures[0] == figures[1]


@pytest.mark.parametrize(
    ("signals", "calls"),
    [
        ((signal.SIGUSR2,), ["saved", "requeued"]),
        ((signal.SIGTERM, signal.SIGUSR2), ["saved", "requeued"]),
        ((signal.SIGTERM,), ["saved", "waits"]),
    ],
)
def test_a_job_saves_before_anything_else_that_a_signal_asks_for(signals, calls, recipe, tmp_path, monkeypatch):
    told = []

    def train_all(*args, **options):
        try:
            signal.raise_signal(signals[0])
        finally:  # what is saved is not disturbed by a second signal
            for signum in signals[1:]:
                signal.raise_signal(signum)
            told.append("saved")

    monkeypatch.setattr(module, "train_all", train_all)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: told.append("waits"))
    work = module.Work((recipe.to_json(),), tmp_path, None, "cpu", 1, None, is_slurm=True)
    with (
        handled((signal.SIGUSR2,), lambda *_: told.append("requeued")),
        handled((signal.SIGTERM,), lambda *_: None),
        pytest.raises(Interrupted),
    ):
        work()
    assert told == calls
    assert work.checkpoint().function is work


@pytest.mark.long
def test_a_local_job_that_is_preempted_goes_on_to_the_same_bits(recipe, tmp_path):
    """The job gets the signal of submitit as soon as a run has begun: saved, queued again, gone on with."""
    recipe, bad = recipe.replace(epochs=300), recipe.replace(model_options={"no_such_option": 1}, seed=7)
    alone, runs = fit(recipe, runs=tmp_path / "alone"), tmp_path / "runs"

    def preempt():
        while not (run_folder(runs, recipe) / "recipe.json").exists():
            time.sleep(0.005)
        (job,) = (runs / "jobs").glob("*.json")
        children = Path(f"/proc/{job.stem}/task/{job.stem}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGUSR2)

    threading.Thread(target=preempt, daemon=True).start()
    failures = train(Cluster("local"), [recipe, bad], runs)
    (log,) = (runs / "jobs").glob("*.out")
    assert "Requeued" in log.read_text()
    (line,) = failures
    assert line.startswith(f"{bad.label} seed 7: ")
    assert "no_such_option" in line
    assert line.endswith("_log.err")
    found = Run(run_folder(runs, recipe))
    assert found.weights("last").keys() == alone.weights("last").keys()
    assert all(found.weights("last")[name].equal(value) for name, value in alone.weights("last").items())


def test_local_jobs_end_with_the_call(recipe, tmp_path, monkeypatch):
    """Also where SIGINT is ignored, as it is in the background of a script."""
    monkeypatch.setattr(module, "POLL", 0.01)
    with handled((signal.SIGINT,), signal.SIG_IGN), pytest.raises(Interrupted, match="the same command goes on"):
        train(Cluster("local"), [recipe.replace(epochs=10**6)], tmp_path, progress=interrupt)
    (job,) = (tmp_path / "jobs").glob("*.json")
    with pytest.raises(ProcessLookupError):
        os.kill(int(job.stem), 0)


def interrupt(*line):
    raise KeyboardInterrupt


def test_without_submitit_the_extra_is_named(recipes, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    with pytest.raises(UsageError, match=r"pip install 'comhe\[cluster\]'"):
        train(Cluster("debug"), recipes, tmp_path)

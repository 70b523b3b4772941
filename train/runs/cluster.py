"""Runs as jobs of a cluster, through submitit: its scheduler starts them, and starts again what it has cut."""

import contextlib
import io
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comhe.errors import RunError, UsageError, check_at_least, check_choice, needs
from comhe.train.recipe import Option, Recipe, read_recipe

from .files import create_folder, write_text
from .interruption import Interrupted, handled
from .launch import name_of, train_all, unfinished
from .run import Run, run_folder

CLUSTERS = ("slurm", "local", "debug")
DEFAULTS: dict[str, Any] = {"job_name": "comhe", "time": 60}  # minutes
ONE_PROCESS = ("nodes", "ntasks", "ntasks_per_node")  # options that would start the same runs several times
LISTS = ("setup", "teardown", "srun_args")
TIMEOUTS = 100  # times that a job which has used up its time goes on in another one
MOST_IN_ARRAY = 1000  # jobs; SLURM's usual limit
POLL, QUEUE_POLL = 1.0, 30.0  # seconds between looks at files, and at the queue
LAG = 60.0  # seconds until a machine sees what another one has written
PATIENCE = 600.0  # seconds that a job which SLURM has told to end waits for what SLURM does next


@dataclass(frozen=True)
class Cluster:
    """Where runs are trained as jobs: ``slurm``, or on this machine for a trial, ``local`` or ``debug``.

    Scripts, logs and lists of the jobs' runs are in the folder ``jobs`` of the runs. Who waits may stop: SLURM's jobs
    stay, and the next call with the same runs finds what is done and waits for what is in the queue. A job that is
    preempted or has used up its time saves its runs and is put back in the queue; a cancelled one saves them, too.
    The jobs of ``local`` all start at once, and ``debug`` works through them in this process; both end with the call.

    Args:
        options: of SLURM's ``sbatch``, by their long names, such as ``partition``, ``gpus_per_node`` and ``account``;
            ``time`` is in minutes, 60 by default. ``local`` takes ``time`` and ``gpus_per_node``.
        per_job: runs in a job, by default one; ``local`` and ``debug`` make one job of all.
        wait: until all jobs have ended; else only submit them.

    Example:
        >>> Cluster("slurm", {"partition": "gpu", "time": 120, "gpus_per_node": 1}, per_job=4).name
        'slurm'
    """

    name: str = "slurm"
    options: Mapping[str, Option] = field(default_factory=dict)
    per_job: int | None = None
    wait: bool = True

    def __post_init__(self) -> None:
        check_choice("cluster", self.name, CLUSTERS)
        check_at_least("per_job", 1 if self.per_job is None else self.per_job, 1)
        if type(minutes := self.options.get("time", 1)) is not int or minutes < 1:
            raise UsageError(f"time, of the cluster's options, is a whole number of minutes, not {minutes!r}")
        for name in ONE_PROCESS:
            if name in self.options:
                raise UsageError(f"a run is trained by one process; leave {name} out of the cluster's options")
        if not self.wait and self.name != "slurm":
            raise UsageError(f"{self.name} jobs end with this command; jobs that it only submits need slurm")

    def train_all(
        self,
        recipes: Iterable[Recipe],
        runs: Path,
        root: str | None,
        device: str,
        jobs: int | None,
        progress: Callable[[int, int, str], None] = lambda *_: None,
        setup: Callable[[], None] | None = None,
        tensorboard: bool = False,
    ) -> list[str]:
        """Do what :func:`comhe.train.runs.launch.train_all` does, in jobs; ``jobs`` are the processes of each of them.

        Raises:
            UsageError: submitit or SLURM are not installed here.
            RunError: SLURM does not take the jobs.
        """
        if not (wanted := unfinished(recipes, runs)):
            return []
        executor = self._executor(folder := runs.absolute() / "jobs")
        create_folder(folder)
        waiting: dict[Any, list[Recipe]] = {}
        under_way = self._under_way(executor)
        for recipe in wanted:
            if _key(recipe) in under_way:
                waiting.setdefault(under_way[_key(recipe)], []).append(recipe)
        attached = len(waiting)
        new = [recipe for recipe in wanted if _key(recipe) not in under_way]
        size = self.per_job or (1 if self.name == "slurm" else len(wanted))
        packs = [new[start : start + size] for start in range(0, len(new), size)]
        is_slurm = self.name == "slurm"
        texts = [tuple(recipe.to_json() for recipe in pack) for pack in packs]
        works = [Work(pack, runs, root, device, jobs, setup, is_slurm, tensorboard) for pack in texts]
        for start in range(0, len(packs), MOST_IN_ARRAY):
            submitted = _submit(executor, works[start : start + MOST_IN_ARRAY])
            for job, pack in zip(submitted, packs[start:], strict=False):
                waiting[job] = pack
                job.paths.result_pickle.unlink(missing_ok=True)  # of an older job with the same number
                write_text(folder / f"{job.job_id}.json", json.dumps([_key(recipe) for recipe in pack]) + "\n")
        what = f"{len(packs)} jobs submitted, {attached} under way before; their logs are in {folder}"
        try:
            progress(0, len(wanted), what)
            return [] if not self.wait else self._wait(waiting, wanted, runs, progress)
        except KeyboardInterrupt as stopped:
            signum = getattr(stopped, "signum", signal.SIGINT)
            raise Interrupted(signum, self._stop(waiting)) from None

    def _executor(self, folder: Path) -> Any:
        with needs("cluster", "a cluster's queue"):
            import submitit
        options = {k: [v] if k in LISTS else v for k, v in (DEFAULTS | dict(self.options)).items()}
        executor: submitit.Executor
        if self.name == "debug":
            return submitit.DebugExecutor(folder)
        if self.name == "local":
            executor = submitit.LocalExecutor(folder, max_num_timeout=TIMEOUTS)
            executor.update_parameters(timeout_min=options.pop("time"), **options)
            return executor
        try:
            executor = submitit.SlurmExecutor(folder, max_num_timeout=TIMEOUTS)
        except RuntimeError as error:
            hint = "call this where jobs are submitted, or take --print-commands for another scheduler"
            raise UsageError(f"there is no SLURM on this machine: it has no srun; {hint}") from error
        known = executor._valid_parameters()
        others = {k: options.pop(k) for k in [*options] if k not in known}  # sbatch knows more than submitit
        if "cpus_per_task" in options:  # since SLURM 22.05, srun does not take over what sbatch was given
            options["srun_args"] = [*options.get("srun_args", ()), f"--cpus-per-task={options['cpus_per_task']}"]
        executor.update_parameters(**options, additional_parameters={"requeue": True} | others)
        return executor

    def _under_way(self, executor: Any) -> dict[str, Any]:
        """Return the jobs that are in the queue, by their runs."""
        records = sorted(executor.folder.glob("*.json")) if self.name == "slurm" else []
        if not records:
            return {}
        queued = queued_jobs()
        if queued is None:
            raise RunError("SLURM's squeue does not answer, so that nobody knows which runs have jobs; try again later")
        jobs = {path: executor.job_class(executor.folder, path.stem) for path in records if path.stem in queued}
        return {key: job for path, job in jobs.items() for key in json.loads(path.read_text())}

    def _wait(
        self,
        waiting: dict[Any, list[Recipe]],
        wanted: Sequence[Recipe],
        runs: Path,
        progress: Callable[[int, int, str], None],
    ) -> list[str]:
        """Report runs as they end, and return one line for each that failed; the jobs that ended leave ``waiting``."""
        total, count = len(wanted), 0
        missing = list(wanted)
        failures: list[str] = []
        queued: set[str] | None = None
        lag = LAG if self.name == "slurm" else 0.0
        looked, since = -QUEUE_POLL, dict[Any, float]()
        while waiting:
            if self.name == "slurm" and time.monotonic() - looked >= QUEUE_POLL:
                queued, looked = queued_jobs(), time.monotonic()
            ended = [job for job in waiting if self._has_ended(job, queued)]
            done = [recipe for recipe in missing if Run(run_folder(runs, recipe)).done]
            missing = [recipe for recipe in missing if recipe not in done]
            for recipe in done:
                count += 1
                progress(count, total, name_of(recipe))
            for job in ended:
                left = [recipe for recipe in waiting[job] if recipe in missing]
                has_result = self.name == "debug" or job.paths.result_pickle.exists()
                reasons = _reasons(job, left) if has_result else {}
                if len(reasons) < len(left) and time.monotonic() - since.setdefault(job, time.monotonic()) < lag:
                    continue  # the result of a job or of a run may be there, and not seen here yet
                del waiting[job]
                for name in map(name_of, left):
                    count += 1
                    reason = reasons.get(name, f"job {job.job_id} has ended without a result")
                    failures.append(f"{name}: {reason}; see {job.paths.stderr}")
                    progress(count, total, f"failed: {failures[-1]}")
            if waiting:
                time.sleep(POLL)
        return failures

    def _has_ended(self, job: Any, queued: set[str] | None) -> bool:
        if self.name != "slurm":
            return job.done()
        return job.paths.result_pickle.exists() or (queued is not None and job.job_id not in queued)

    def _stop(self, waiting: dict[Any, list[Recipe]]) -> str:
        """End the jobs that end with this process, and say what becomes of the others."""
        if self.name == "slurm":
            ids = " ".join(dict.fromkeys(job.job_id.split("_")[0] for job in waiting))
            what = f"stopped waiting for {len(waiting)} jobs, which stay in the queue (scancel {ids} ends them)"
            return f"{what}; the same command waits for them again"
        for job in waiting:
            job.cancel()
        while self.name == "local" and not all(job.done() for job in waiting):
            time.sleep(POLL)
        return "stopped, and what ran is saved; the same command goes on from there"


@dataclass(frozen=True)
class Work:
    """What a job does; submitit calls it on another machine, with the modules of the user's loaded by ``setup``."""

    recipes: tuple[str, ...]  # as JSON: the class of a recipe may come from one of these modules
    runs: Path
    root: str | None
    device: str
    jobs: int | None
    setup: Callable[[], None] | None
    is_slurm: bool
    tensorboard: bool = False

    def __call__(self) -> list[str]:
        """Train the runs; on a signal save them first, and then leave it to submitit's handler."""
        import submitit

        if self.setup is not None:
            self.setup()
        recipes = [read_recipe(text) for text in self.recipes]
        requeue = signal.Signals[f"SIG{submitit.JobEnvironment.USR_SIG}"]
        received: list[int] = []

        def end(signum: int, frame: Any) -> None:
            received.append(signum)
            if len(received) == 1:  # the next one must not disturb the saving
                raise Interrupted(signum)

        def progress(done: int, total: int, text: str) -> None:
            print(f"run {done}/{total}  {text}", flush=True)

        try:
            with handled((signal.SIGTERM, requeue), end):
                options: dict[str, Any] = {"setup": self.setup, "tensorboard": self.tensorboard}
                return train_all(recipes, self.runs, self.root, self.device, self.jobs, progress, **options)
        except Interrupted:
            if requeue in received:
                signal.raise_signal(requeue)  # asks for a checkpoint, queues the job again, ends this process
            elif self.is_slurm:
                time.sleep(PATIENCE)  # a job that SLURM preempts and that has ended would not be queued again
            raise

    def checkpoint(self) -> Any:
        """Return what the next job does: the same, since the runs know how far they are."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def queued_jobs() -> set[str] | None:
    """Return the ids of the user's jobs in SLURM's queue, None if it does not answer."""
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
    answer = subprocess.run(command, capture_output=True, text=True)
    return None if answer.returncode else set(answer.stdout.split())


def _submit(executor: Any, works: Sequence[Work]) -> list[Any]:
    import submitit

    try:
        with (
            contextlib.redirect_stderr(io.StringIO()),  # what is printed there is in the error as well
            handled((signal.SIGINT,), signal.default_int_handler),  # local jobs are ended by it: if it is ignored here,
        ):  # as in the background of a script, they must not inherit that
            return executor.submit_array(works)
    except submitit.core.utils.FailedJobError as error:
        lines = [line for line in str(error).splitlines() if "error" in line] or [str(error)]
        raise RunError(f"SLURM does not take the jobs: {lines[0].removeprefix('sbatch: error: ')}") from error


def _reasons(job: Any, missing: Sequence[Recipe]) -> dict[str, str]:
    """Return why runs have failed, as far as the result of their job tells, by their names."""
    names = [name_of(recipe) for recipe in missing]
    try:
        lines = [line.partition(": ") for line in job.result()]
    except RuntimeError as error:  # of the job as a whole, with a traceback that ends with what it was
        trace = (str(error).split("-" * 22)[1:2] or [str(error)])[0]
        return dict.fromkeys(names, trace.strip().splitlines()[-1])
    return {name: reason for name, _, reason in lines if name in names}


def _key(recipe: Recipe) -> str:
    return run_folder(Path(), recipe).as_posix()

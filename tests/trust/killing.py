"""A process that trains runs in forks of itself and ends them where a request says.

It gets requests through a pipe, and answers each: how the fork has ended (an exit status, or minus a signal's number),
what it has printed, and how many boundaries it has come by. A fork costs milliseconds where a new process takes seconds
to import torch, so that all boundaries of a run can be tried. Checkpoints are written after every step, not every
minute.

A boundary is a moment between two things that outlive the process: before a file gets its name with half of it written,
before it with all of it written, and after; before and after a file is removed; after an optimizer step.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

KINDS = {  # of runs: a small one of each domain, between them everything that has a state
    "graphs": {
        "model": "gcn", "data": "citations", "epochs": 3, "regularizer": "ap-comhe", "energies": 1, "log_steps": 1,
    },
    "graphs-random": {
        "model": "gcn", "data": "citations", "epochs": 3, "regularizer": "rp-comhe", "weight": 0.5,
        "regularizer_options": {"redraw": 2, "dim": 8},
    },
    "images": {
        "model": "resnet8", "data": "digits", "epochs": 2, "batch_size": 16, "regularizer": "adv-comhe", "ema": 0.9,
        "energies": 2, "log_steps": 2, "schedule": "one-cycle", "cutout": 4, "accumulate": 2,
    },
    "points": {
        "model": "pointnet", "data": "solids", "epochs": 2, "batch_size": 16, "points": 32, "norm_decay": 0.3,
        "regularizer": "group-comhe", "regularizer_options": {"partition": "random", "exclude": "head.*"},
        "augmentation": "pointnet", "votes": 2,
    },
}  # fmt: skip
# A GPU's threads would not survive a fork; one thread everywhere, or sums come out otherwise.
SETTINGS = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
SAMPLES = {"train": 48, "val": 32, "test": 32}


def recipe_of(kind: str, **changes: Any) -> Any:
    from comhe.train.recipe import find_domain

    return find_domain(kind.split("-")[0]).recipe(recipe="trust", **KINDS[kind] | changes)


def shrink() -> None:
    """Make few of the built-in images and clouds, and leave a few of these."""
    from comhe.datasets.images import glyphs
    from comhe.datasets.points import solids
    from comhe.train import images, points

    glyphs.TRAIN, glyphs.TEST = 20, 5  # of each class; a fifth of those to train is held out
    solids.EACH = {"train": 4, "val": 3, "test": 3}
    for task in (images.ImageTask, points.PointTask):

        def few(name: str, root: str | None, full: Any = task.load) -> Any:
            found = full(name, root)
            splits = {}
            for split, count in SAMPLES.items():
                data = found.get_split(split)
                splits[split] = type(data)(*(tensor[:count] for tensor in vars(data).values()))
            return replace(found, **splits)

        task.load = staticmethod(few)


class Boundaries:
    """Counts them, and does something at one."""

    def __init__(self, at: int, what: str) -> None:
        self.at, self.what, self.count = at, what, 0

    def pass_by(self, part: str | None = None) -> None:
        """``part``: the file that is half written in this moment."""
        self.count += 1
        if self.what == "ENOSPC":  # at the boundary, or the next one at which something is written
            if part is not None and 0 < self.at <= self.count:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return
        if self.count != self.at:
            return
        if part is not None and self.what == "SIGKILL":
            os.truncate(part, os.path.getsize(part) // 2)
        os.kill(os.getpid(), getattr(signal, self.what))

    def watch(self) -> None:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        rename, unlink = os.replace, Path.unlink

        def replace(source: Any, target: Any) -> None:
            self.pass_by(os.fspath(source))
            self.pass_by()
            rename(source, target)
            self.pass_by()

        def remove(path: Path, missing_ok: bool = False) -> None:
            self.pass_by()
            unlink(path, missing_ok=missing_ok)
            self.pass_by()

        os.replace, Path.unlink = replace, remove
        register_optimizer_step_post_hook(lambda *_: self.pass_by())


def prepare() -> None:
    gc.set_threshold(20_000)  # as the command does
    os.environ.update(SETTINGS)
    import torch

    from comhe.train.engine import loop

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it may be ignored
    loop.CHECKPOINT_SECONDS = 0.0
    shrink()


def work(request: dict[str, Any], pipe: int) -> int:
    """In the fork: a command, or one run, or what is missing of it."""
    from comhe.train.cli import main as cli
    from comhe.train.runs import launch

    if argv := request.get("argv"):
        return cli.main(argv)
    boundaries = Boundaries(request.get("at", 0), request.get("what", "SIGKILL"))
    boundaries.watch()
    recipe = recipe_of(request["kind"])
    status = cli.guarded(lambda folder: launch.fit(recipe, runs=folder), request["folder"])
    os.write(pipe, b"%d" % boundaries.count)
    return status


def fork(work: Callable[[], int], output: int) -> int:
    """The process number of a fork, in its own session, that works, prints to the pipe, and ends with a status.

    It does not wait for the disk: what it has written outlives it, if not the machine.
    """
    if pid := os.fork():
        return pid
    os.fsync = lambda file: None
    os.setsid()
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        status = work()
    except SystemExit as left:
        status = left.code
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        status = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Fork, let it work, and end it: ``seconds`` after it began, or as soon as a file matches ``until``. The signal
    goes to the fork alone or, with ``group``, to all processes that it has started."""
    ours, theirs = os.pipe()
    errors_out, errors_in = os.pipe()
    pid = fork(lambda: work(request, theirs), errors_in)
    os.close(theirs)
    os.close(errors_in)
    if "seconds" in request or "until" in request:
        deadline = time.monotonic() + request.get("seconds", 1e9)
        while not select.select([ours], [], [], 0.002)[0]:  # readable once it has ended
            if time.monotonic() > deadline or ("until" in request and any(Path("/").glob(request["until"]))):
                (os.killpg if request.get("group") else os.kill)(pid, getattr(signal, request.get("what", "SIGKILL")))
                break
    with open(errors_out, "rb") as errors, open(ours, "rb") as pipe:
        output = errors.read().decode()  # until all its processes have ended
        passed = pipe.read()
    _, status = os.waitpid(pid, 0)
    return {"status": os.waitstatus_to_exitcode(status), "boundaries": int(passed or 0), "output": output}


def serve(pipe: Connection, answer: Callable[[dict[str, Any]], Any]) -> None:
    """Answer requests until there are no more."""
    with suppress(EOFError):
        while True:
            pipe.send(answer(pipe.recv()))


def main() -> None:
    from comhe.train.cli import main as cli
    from comhe.train.runs import launch

    assert cli  # imported here once, not in every fork
    prepare()
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:  # so is whatever a run imports or makes, such as its data
            launch.fit(recipe_of(kind).replace(epochs=1), runs=folder)
    serve(globals()["pipe"], answer)


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":  # in a worker process of `comhe compare`
    prepare()

"""Jobs in processes of their own: one that fails does not affect the others; a deadline or a signal ends them all."""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, get_context, parent_process, process, resource_tracker
from typing import Any

from comhe.errors import ComheError
from comhe.progress import Amount, current_display, watched_by
from comhe.train.hardware import limited_threads

from .interruption import Interrupted

_SPAWN = get_context("spawn")  # a forked process would inherit locks of threads that it does not have
GRACE = 60.0  # seconds that processes have to end after SIGTERM


@dataclass
class _Worker:
    number: int
    process: process.BaseProcess
    pipe: connection.Connection
    job: Any = None
    shown: set[Hashable] = field(default_factory=set)  # what the display knows of the job


@dataclass(frozen=True)
class _Relay:
    """A display in a worker's process, which tells the parent's."""

    pipe: connection.Connection

    def update(self, key: Hashable, amount: Amount) -> None:
        self.pipe.send((id(key), amount))

    def end(self, key: Hashable) -> None:
        self.pipe.send((id(key), None))


def run_all(
    work: Callable[[Any], Any],
    jobs: Iterable[Any],
    processes: int,
    seconds: float | None = None,
    ended: Callable[[Any, str | None], None] = lambda job, error: None,
    begin: Callable[[int], None] | None = None,
    refusal: Callable[[Any], str | None] = lambda job: None,
) -> list[Any]:
    """Call ``work(job)`` for every job, in processes that share the cores; return those that did not end.

    After so many ``seconds``, as after an exception here (such as Ctrl-C), nothing new is started, and what still runs
    gets SIGTERM, and SIGKILL a minute later; it also gets SIGTERM when this process dies. ``ended`` is called with each
    job, and one line if it failed; ``begin`` once in each process, with the lowest number that no other has. A job for
    which ``refusal`` has a line when its turn comes ends with that line, and is not tried.
    """
    waiting = list(jobs)
    workers: list[_Worker] = []
    deadline = None if seconds is None else time.monotonic() + seconds
    try:
        while True:
            for job in [*waiting]:
                if (reason := refusal(job)) is not None:
                    waiting.remove(job)
                    ended(job, reason)
            while waiting and len(workers) < min(processes, sum(w.job is not None for w in workers) + len(waiting)):
                number = min({*range(processes)} - {worker.number for worker in workers})
                workers.append(_start(work, processes, number, begin))
            for worker in workers:
                if worker.job is None and waiting:
                    worker.job = waiting.pop(0)
                    with suppress(OSError):  # it has died already, which reading from it tells below
                        worker.pipe.send(worker.job)
            busy = [worker for worker in workers if worker.job is not None]
            if not busy:
                return []
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = connection.wait([worker.pipe for worker in busy], left)
            if not ready:
                return [*(worker.job for worker in busy), *waiting]
            for worker in busy:
                if worker.pipe not in ready:
                    continue
                try:
                    error = worker.pipe.recv()
                    if isinstance(error, tuple):
                        _show(worker, *error)
                        continue
                except (EOFError, OSError):
                    worker.process.join()
                    workers.remove(worker)
                    error = f"its process ended with exit code {worker.process.exitcode}"
                for key in [*worker.shown]:
                    _show(worker, key, None)
                job, worker.job = worker.job, None
                ended(job, error)
    finally:
        try:
            _terminate(workers)
        finally:  # also after a second Ctrl-C
            for worker in workers:
                worker.process.kill()
                worker.process.join()


def _show(worker: _Worker, key: Hashable, amount: Amount | None) -> None:
    """Pass on how far a worker is; None when it has ended."""
    if (display := current_display()) is None:
        return
    if amount is not None:
        worker.shown.add(key)
        display.update((worker.number, key), amount)
    elif key in worker.shown:
        worker.shown.remove(key)
        display.end((worker.number, key))


def _terminate(workers: list[_Worker]) -> None:
    """Send SIGTERM to processes that work, and give them time to save."""
    busy = [worker.process for worker in workers if worker.job is not None]
    for each in busy:
        each.terminate()
    until = time.monotonic() + GRACE
    for each in busy:
        each.join(max(0.0, until - time.monotonic()))


def _start(work: Callable[[Any], Any], processes: int, number: int, begin: Callable[[int], None] | None) -> _Worker:
    ours, theirs = _SPAWN.Pipe()
    child = _SPAWN.Process(  # no daemon: these may have no processes of their own, as those that decode images
        target=_loop, args=(work, theirs, processes, number, begin, current_display() is not None)
    )
    with _signals_blocked():
        child.start()
    theirs.close()  # so that the child's death closes the pipe
    return _Worker(number, child, ours)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block signals in processes started here, which this one ends in order.

    Ctrl-C reaches all processes of a terminal, and a cluster's warning before it ends a job may reach all of the job.
    """
    if os.name == "nt":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2})
    try:
        resource_tracker.ensure_running()  # else it is started with the child, and unblocks SIGINT
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _loop(
    work: Callable[[Any], Any],
    pipe: connection.Connection,
    processes: int,
    number: int,
    begin: Callable[[int], None] | None,
    is_watched: bool,
) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with limited_threads(processes=processes), watched_by(_Relay(pipe) if is_watched else None):
        if begin is not None:
            begin(number)
        while True:
            try:
                job = pipe.recv()
            except EOFError:  # the parent is gone
                return
            try:
                work(job)
                error = None
            except Interrupted as stopped:
                sys.exit(128 + stopped.signum)
            except Exception as caught:
                error = f"{type(caught).__name__}: {caught}"
                if not isinstance(
                    caught, ComheError
                ):  # a bug, perhaps of a model of one's own: its place is what helps
                    place = traceback.extract_tb(caught.__traceback__)[-1]
                    error += f" ({place.filename}:{place.lineno}, in {place.name})"
            pipe.send(error)


def _die_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)

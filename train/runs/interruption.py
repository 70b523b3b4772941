"""SIGINT and SIGTERM: the current work is saved first; the second signal does not wait."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from typing import Any


def torchrun_rank() -> tuple[int, int]:
    """Return rank and number of the processes that torchrun has started together; 0 and 1 in any other process."""
    names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    if not all(os.environ.get(name) for name in names):
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


class Interrupted(KeyboardInterrupt):
    """A signal has ended the work; the message says how to go on."""

    def __init__(self, signum: int, message: str = "") -> None:
        super().__init__(message)
        self.signum = signum


class Stop:
    """The signal that was received, 0 for none."""

    signum = 0


@contextmanager
def deferred() -> Iterator[Stop]:
    """Record signals, so that the block can end at a good moment; the second one raises :class:`Interrupted` at once.

    Not so in a process that another has started, which a signal to the process group reaches twice.
    """
    stop = Stop()

    def record(signum: int, frame: Any) -> None:
        if stop.signum and parent_process() is None and torchrun_rank()[1] == 1:
            raise Interrupted(signum, "stopped at once; the same command goes on from what was saved before")
        stop.signum = signum

    with handled((signal.SIGINT, signal.SIGTERM), record):
        yield stop
    if stop.signum:
        signal.raise_signal(stop.signum)


@contextmanager
def terminable() -> Iterator[None]:
    """Raise :class:`Interrupted` on SIGTERM, as SIGINT raises KeyboardInterrupt, so that open resources are closed."""

    def end(signum: int, frame: Any) -> None:
        raise Interrupted(signum)

    with handled((signal.SIGTERM,), end):
        yield


@contextmanager
def handled(signals: tuple[int, ...], handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Install a handler for the time of the block, in the main thread, which alone receives signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, handler) for signum in signals}
    try:
        yield
    finally:
        for signum, old in before.items():
            signal.signal(signum, signal.SIG_DFL if old is None else old)

"""SIGINT and SIGTERM: what is under way is saved first; the second one does not wait."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def started() -> tuple[int, int]:
    """Rank and number of the processes that torchrun has started together; 0 and 1 in any other process."""
    rank, size, *others = (os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
    return (int(rank), int(size)) if all((rank, size, *others)) else (0, 1)


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
    """Signals are noted, for the block to end where it can. One that it had no use for takes effect after it.

    A second one raises :class:`Interrupted` at once, but not in a process that has been started by another of ours or
    by torchrun: a signal to the whole group reaches it twice, directly and through the one that has started it.
    """
    stop = Stop()

    def note(signum: int, frame: Any) -> None:
        if stop.signum and parent_process() is None and started()[1] == 1:
            raise Interrupted(signum, "stopped at once; the same command goes on from what was saved before")
        stop.signum = signum

    with handled(SIGNALS, note):
        yield stop
    if stop.signum:
        signal.raise_signal(stop.signum)


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises :class:`Interrupted`, as SIGINT raises KeyboardInterrupt, so that whatever is open is closed."""

    def end(signum: int, frame: Any) -> None:
        raise Interrupted(signum)

    with handled((signal.SIGTERM,), end):
        yield


@contextmanager
def handled(signals: tuple[int, ...], handler: Callable[[int, Any], None]) -> Iterator[None]:
    """A handler for the time of the block; outside the main thread, which no signal reaches, none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, handler) for signum in signals}
    try:
        yield
    finally:
        for signum, old in before.items():
            signal.signal(signum, signal.SIG_DFL if old is None else old)

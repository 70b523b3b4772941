"""A folder that one process at a time works on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

PATIENCE = 10.0  # seconds: the processes of a command that was killed take a moment to save what they were at


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder/lock`` while the block runs. However the process ends, the system takes the lock off.

    On a file system without locks everybody gets it.

    Raises:
        BlockingIOError: another process holds it, and goes on doing so.
    """
    path = folder / "lock"
    file = _claim(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # first: a lock is only good as long as its file has the name, see _claim
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)  # closing would leave it to forked processes
        file.close()


def _claim(path: Path) -> TextIO:
    until = time.monotonic() + PATIENCE
    while True:
        file = path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            if time.monotonic() > until:
                raise BlockingIOError(
                    f"{path.parent} is being worked on by {holder}; wait for it, or choose another --runs folder"
                ) from None
            time.sleep(0.1)
            continue
        except OSError:
            return file
        if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}\n")
            file.flush()
            return file
        file.close()  # its holder has removed it between our two calls

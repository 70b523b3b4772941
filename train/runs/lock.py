"""A folder that one process at a time works on."""

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from comhe.errors import BusyError, StorageError

PATIENCE = 10.0  # seconds: the processes of a command that was killed take a moment to save their work


@contextlib.contextmanager
def locked(folder: Path, option: str = "--runs") -> Iterator[None]:
    """Hold ``folder/lock``, where the file system has locks, until the block or the process ends; else BusyError.

    ``option``: where the user chooses the folder.
    """
    path = folder / "lock"
    lock = FileLock(path)
    try:
        lock.acquire(timeout=PATIENCE, poll_interval=0.1)
        if not (text := _holder(path)) or text.startswith("process "):  # else the library's mark: there are no locks
            path.write_text(f"process {os.getpid()} on {platform.node()}\n")
    except Timeout:
        holder = _holder(path) or "another process"
        raise BusyError(f"{folder} is in use by {holder}; wait for it, or choose another {option} folder") from None
    except OSError as error:
        if not os.access(folder, os.W_OK):
            raise StorageError(f"{folder} cannot be written to: {error.strerror or error}") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: a process that waits for this file notices that it is gone
        lock.release()


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError):
        return " ".join(path.read_text().split())
    return ""

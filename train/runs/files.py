"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from comhe.errors import StorageError


@contextlib.contextmanager
def whole(path: Path, sync: bool = False) -> Iterator[BinaryIO]:
    """A file that appears under its name once the block has written all of it; until then that name keeps what it had.

    The death of the process can come at any moment. With ``sync`` so can the machine's: what is written is on the disk
    before it gets its name, and the name before this returns.

    Raises:
        OSError: one line with the file and the system's reason, such as a full disk.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
        if sync:
            _sync_names(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)  # on a full disk it is in the way
        reason = _system_error(error)
        if reason is None:
            raise
        raise OSError(
            f"{path} cannot be written ({reason.strerror or reason}); what was saved before is whole, and the same "
            "command goes on from it"
        ) from error


def write(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with whole(path) as file:
        file.write(text.encode())


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with all their columns, numbers with six digits."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)


def check_writable(folder: Path) -> None:
    """Create a folder if it does not exist, and check that files can be written there.

    Raises:
        StorageError: If they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StorageError(f"{folder} cannot be written to: {error.strerror or error}") from error


def _system_error(error: BaseException) -> OSError | None:
    """The system's error: torch.save puts one of its own on top."""
    if error is None or isinstance(error, OSError):
        return error
    return _system_error(error.__context__) if isinstance(error, RuntimeError) else None


def _sync_names(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

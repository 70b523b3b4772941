"""Files that are written completely or not at all."""

import contextlib
import csv
import io
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from comhe.errors import StorageError


@contextlib.contextmanager
def atomic_write(path: Path, sync: bool = False) -> Iterator[BinaryIO]:
    """Open a file that replaces ``path`` once all of it is written; the process may die at any moment.

    With ``sync`` the machine may die as well: the content is on the disk before the file gets its name.
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
            _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)  # it would fill the disk further
        reason = _system_error(error)
        if reason is None:
            raise
        intact = "what was saved before is intact, and the same command goes on from it"
        raise StorageError(f"{path} cannot be written ({reason.strerror or reason}); {intact}") from error


def write_text(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write(text.encode())


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with the columns of all of them, floating-point numbers with six digits; create the folder."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    create_folder(path.parent)
    write_text(path, text.getvalue())


def create_folder(folder: Path) -> None:
    """Create a folder and its parents; StorageError names the folder and the system's reason."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} cannot be created: {error.strerror or error}") from error


def check_writable(folder: Path) -> None:
    """Create a folder if it does not exist, and check that files can be written there."""
    create_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StorageError(f"{folder} cannot be written to: {error.strerror or error}") from error


def _system_error(error: BaseException | None) -> OSError | None:
    """Return the system's error, which torch.save hides behind one of its own."""
    if error is None or isinstance(error, OSError):
        return error
    return _system_error(error.__context__) if isinstance(error, RuntimeError) else None


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # where a folder cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

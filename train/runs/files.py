"""Files that are written completely or not at all."""

import contextlib
import csv
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from comhe.datasets.io.files import atomic_write
from comhe.errors import StorageError


@contextlib.contextmanager
def open_atomic(path: Path, sync: bool = False) -> Iterator[BinaryIO]:
    """Open a file that replaces ``path`` once all of it is written; see :func:`atomic_write`.

    Raises:
        StorageError: the system cannot write the file.
    """
    try:
        with atomic_write(path, sync) as partial, partial.open("wb") as file:
            yield file
    except BaseException as error:
        reason = _system_error(error)
        if reason is None:
            raise
        intact = "what was saved before is intact, and the same command goes on from it"
        raise StorageError(f"{path} cannot be written ({reason.strerror or reason}); {intact}") from error


def write_text(path: Path, text: str) -> None:
    with open_atomic(path) as file:
        file.write(text.encode())


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
    """Write rows with these columns and those of all rows, numbers with six digits; create the folder."""
    text = io.StringIO()
    writer = csv.DictWriter(
        text, list(dict.fromkeys([*columns, *(name for row in rows for name in row)])), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    create_folder(path.parent)
    write_text(path, text.getvalue())


def create_folder(folder: Path) -> list[Path]:
    """Create a folder and its parents, and return those that are new, the innermost first.

    Raises:
        StorageError: it cannot be created; the message has the system's reason.
    """
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} cannot be created: {error.strerror or error}") from error
    return new


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

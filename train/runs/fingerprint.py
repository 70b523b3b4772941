"""What tells the files of one's own data from others under the same name."""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from comhe.datasets.io.layouts import files_below
from comhe.datasets.registry import loader_of
from comhe.errors import DataError, RunError

READ = 1 << 26  # bytes of data whose contents are read; of larger ones names and sizes are compared
Listing = tuple[tuple[str, int, int], ...]  # of each file its path, its size and when it was changed


def data_digest(data: str) -> str:
    """Return a number of the files that ``KIND:PATH`` names, empty for any other data and for files that are missing.

    Example:
        >>> _ = Path("edges.txt").write_text("0 1")
        >>> data_digest("graph:edges.txt") == data_digest("folder:edges.txt"), data_digest("cora")
        (True, '')
    """
    try:
        return _digest(*found) if (found := _listing(data)) else ""
    except OSError:
        return ""


def data_stamp(data: str, domain: str) -> tuple[Callable[..., Any] | None, int]:
    """Return what differs once data of this name are others in this process: their loader, and a number of their files.

    Files count by when they were written, whatever they contain.
    """
    return loader_of(data, domain), hash(_listing(data))


def check_unchanged(data: str, digest: str | None, trained: str, hint: str) -> None:
    """Raise RunError if what was ``trained`` saw other files of these data, whose number was ``digest``.

    Files that are missing are not told here, and nothing is where no number was recorded.
    """
    now = data_digest(data)
    if now and digest and now != digest:
        raise RunError(f"the files of {data} have changed since {trained} was trained; {hint}")


def _listing(data: str) -> tuple[Path, Listing] | None:
    """The path that ``KIND:PATH`` names, and its files; None for any other data and for files that are missing."""
    _, colon, name = data.partition(":")
    path = Path(name).expanduser().absolute()
    if not colon or not path.exists():
        return None
    try:
        files = files_below(path) if path.is_dir() else [""]
        status = [(file, (path / file).stat()) for file in files]
    except (DataError, OSError):
        return None
    return path, tuple((file, each.st_size, each.st_mtime_ns) for file, each in status)


@lru_cache(maxsize=16)
def _digest(path: Path, listing: Listing) -> str:
    found, is_read = hashlib.sha256(), sum(size for _, size, _ in listing) <= READ
    for file, size, _ in listing:
        found.update(f"{file}\0{size}\0".encode("utf-8", "surrogateescape"))
        if is_read:
            found.update((path / file).read_bytes())
    return found.hexdigest()[:12]

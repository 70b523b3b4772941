"""Reading one file with a bound on its size, and numbers that depend on its name alone."""

import hashlib
from pathlib import Path

from comhe.errors import DataError


def read_bounded(path: Path, limit: int) -> bytes:
    """Read a regular file of at most ``limit`` bytes; anything else raises a DataError."""
    try:
        if not path.is_file():
            raise DataError(f"{path}: not a regular file" if path.exists() else f"{path}: no such file")
        with path.open("rb") as file:
            data = file.read(limit + 1)  # not stat(): the file may grow before it is read
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(data) > limit:
        raise DataError(f"{path}: larger than {limit:,} bytes, the limit for such a file")
    return data


def text_seed(text: str) -> int:
    """Return a 32-bit seed that depends on a text; unlike ``hash``, the same in every process."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:4], "big")

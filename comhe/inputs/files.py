"""Reading one file with a bound on its size, and numbers that depend on its name alone."""

import hashlib
import struct
import zipfile
import zlib
from pathlib import Path

from comhe.errors import DataError

from .signatures import HEAD, named_stand_in

# What reading a damaged zip archive raises: for an encrypted member or an unknown compression (RuntimeError), a
# negative offset (OSError), a name that is not UTF-8 (ValueError), ...
ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, OSError, RuntimeError, ValueError)


def read_bounded(path: Path, limit: int) -> bytes:
    """Read a regular file of at most ``limit`` bytes; anything else, or what lies in its place, raises a DataError."""
    try:
        if not path.is_file():
            raise DataError(f"{path}: not a regular file" if path.exists() else f"{path}: no such file")
        with path.open("rb") as file:
            data = file.read(limit + 1)  # not stat(): the file may grow before it is read
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(data) > limit:
        raise DataError(f"{path}: larger than {limit:,} bytes, the limit for such a file")
    if stand_in := named_stand_in(data[:HEAD]):
        raise DataError(f"{path}: {stand_in}")
    return data


def text_seed(text: str) -> int:
    """Return a 32-bit seed that depends on a text; unlike ``hash``, the same in every process."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:4], "big")

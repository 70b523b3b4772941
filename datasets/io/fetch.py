"""Where data lives on disk, and how a published file gets there: whole and checked, or not at all."""

import contextlib
import glob
import hashlib
import http.client
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path

CHUNK = 1 << 16
TIMEOUT = 20.0  # seconds without a byte before the next mirror is tried
STALE = 3600.0  # seconds after which an unfinished file belongs to nobody: a download writes or gives up sooner


class DataError(ValueError):
    """A data file that cannot be used; the message is one line that names the file and the reason."""


class MissingDataError(DataError, FileNotFoundError):
    """Files that are neither on disk nor reachable; the message names the folder, the files and the fix."""


class AlteredDataWarning(UserWarning):
    """Files on disk are not the published ones, so results may not compare with published numbers."""


def data_root(root: str | Path | None = None) -> Path:
    """The folder that holds all data sets: `root`, else $COMHE_DATA, else `comhe` in the user cache folder.

    The user cache folder is $XDG_CACHE_HOME where that is an absolute path, else ~/.cache. Nothing is created here.
    """
    if root is None:
        root = os.environ.get("COMHE_DATA") or None
    return user_cache() if root is None else Path(root).expanduser()


def user_cache() -> Path:
    """The folder in the user cache, whatever $COMHE_DATA says."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification says that a relative path is to be ignored.
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "comhe"


def read_bounded(path: Path, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes; DataError for anything else."""
    try:
        if not path.is_file():
            raise DataError(f"{path}: not a regular file")
        with path.open("rb") as file:
            data = file.read(limit + 1)  # not stat(): the file may grow between the question and the reading
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(data) > limit:
        raise DataError(f"{path}: larger than {limit:,} bytes, the most that is read of such a file")
    return data


def fetch(path: Path, urls: Iterable[str], sha256: str, limit: int) -> Path:
    """Download `path` from the first of `urls` that gives the file with this `sha256`; returns `path`.

    The bytes go to a temporary file in the same folder, which takes the final name only once its checksum is right
    and it is on the disk. So an interrupted, truncated or altered download is never taken for the file, and two
    processes that fetch the same file do no harm to each other. What a killed process has left is removed later.

    Raises:
        DataError: no mirror gave the file; names every mirror with its reason. Nothing is left in the folder.
    """
    reasons = []
    _sweep(path)
    for url in urls:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _download(url, path, sha256, limit)
            return path
        # HTTPException: a broken answer; ValueError: a mirror that is no address.
        except (OSError, http.client.HTTPException, ValueError) as error:
            reasons.append(f"{url}: {' '.join(str(error).split()) or type(error).__name__}")
    raise DataError(f"{path.name} could not be downloaded ({'; '.join(reasons) or 'no address is known'})")


def _sweep(path: Path) -> None:
    with contextlib.suppress(OSError):
        for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
            if time.time() - part.stat().st_mtime > STALE:
                part.unlink()


def _download(url: str, path: Path, sha256: str, limit: int) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            digest = hashlib.sha256()
            with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
                total = answer.headers.get("Content-Length")
                done = 0
                while chunk := answer.read(CHUNK):
                    done += len(chunk)
                    if done > limit:
                        raise DataError(f"more than {limit:,} bytes")
                    file.write(chunk)
                    digest.update(chunk)
                    _progress(path.name, done, total)
            if digest.hexdigest() != sha256:
                raise DataError(f"sha256 of the {done:,} bytes is {digest.hexdigest()[:12]}..., not {sha256[:12]}...")
            file.flush()
            os.fsync(file.fileno())  # before the rename, or a power cut could leave the name without the bytes
        os.chmod(name, 0o644)  # mkstemp gives 0600, which a shared data folder cannot use
        os.replace(name, path)
        _progress(path.name, done, total, end=True)
    finally:
        with contextlib.suppress(FileNotFoundError):  # renamed
            os.unlink(name)


def _progress(name: str, done: int, total: str | None, end: bool = False) -> None:
    """One line on stderr, redrawn on a terminal and written once elsewhere (a log wants no carriage returns)."""
    terminal = sys.stderr.isatty()
    if terminal or end:
        share = f" of {int(total) / 1e6:.1f}" if total and total.isdecimal() else ""
        line = f"{name}: {done / 1e6:.1f}{share} MB"
        print(f"\r{line}" if terminal else line, end="\n" if end else "", file=sys.stderr, flush=True)

"""Where data lives on disk, downloads, lists of files, and writing that is complete or not done."""

import contextlib
import glob
import hashlib
import http.client
import os
import secrets
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from comhe.errors import ComheWarning, DataError, warn
from comhe.inputs.files import read_bounded
from comhe.inputs.tables import plain_text
from comhe.progress import track

MAX_LIST_BYTES = 1 << 22
CHUNK = 1 << 16
TIMEOUT = 20.0  # seconds without a byte before the next mirror is tried
STALE = 3600.0  # seconds after which an unfinished file is abandoned: a download finishes or fails sooner


class MissingDataError(DataError, FileNotFoundError):
    """Files are neither on disk nor reachable; the message names the folder, the files and the fix."""


class AlteredDataWarning(ComheWarning):
    """Files on disk are not the published ones, so results may not compare with published numbers."""


def warn_altered(name: str, files: Sequence[object]) -> None:
    """Warn the caller of ``load_images`` or ``load_graph``."""
    verb = "is not the published file" if len(files) == 1 else "are not the published files"
    text = f"{name}: {', '.join(map(str, files))} {verb}; results may not compare with published ones"
    warn(text, AlteredDataWarning)


def missing(what: str, reason: object = "") -> MissingDataError:
    fix = "put the data there, or name the folder that holds it with --data-root or $COMHE_DATA"
    return MissingDataError(f"{what}; {fix}" + (f" ({reason})" if reason else ""))


def data_root(root: str | Path | None = None) -> Path:
    """Return the folder that holds all data sets: ``root``, else ``$COMHE_DATA``, else ``comhe`` in the user cache.

    The user cache is ``$XDG_CACHE_HOME`` if that is an absolute path, else ``~/.cache``. Nothing is created.

    Example:
        >>> data_root("data").as_posix()
        'data'
    """
    root = root or os.environ.get("COMHE_DATA")
    return Path(root).expanduser() if root else user_cache()


def user_cache() -> Path:
    """Return the package's folder in the user cache, whatever ``$COMHE_DATA`` says."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification says to ignore a relative path.
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "comhe"


@contextlib.contextmanager
def atomic_write(path: Path, sync: bool = True) -> Iterator[Path]:
    """Yield a new path in the folder of ``path``, whose file replaces ``path`` if the block succeeds.

    So a reader never sees an unfinished file, and processes that write the same file do not disturb each other. Where
    ``path`` is a symbolic link, the file that it points to is replaced. With
    ``sync`` this holds after a power cut too: the content is on the disk before the file gets its name.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield partial
        if sync:
            with partial.open("r+b") as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
        if sync and os.name != "nt":  # where a folder cannot be opened
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)  # it would fill the disk further


def read_text(path: Path, limit: int, strict: bool = False) -> str:
    """Read a text of at most ``limit`` bytes in UTF-8 or UTF-16; unless ``strict``, in Windows-1252 with a warning."""
    data = plain_text(read_bounded(path, limit))
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        text = "" if strict else data.decode("cp1252", "ignore")
        if len(text) < len(data):  # five bytes are no letters of it
            raise DataError(f"{path}: not a text file (byte {error.start}); save it as UTF-8") from error
    warn(f"{path}: not in UTF-8, so it is read as Windows-1252; save it as UTF-8 if its words are wrong")
    return text


def read_lines(path: Path) -> list[str]:
    """Read the lines of a list file without surrounding space; an empty or repeated line is a DataError.

    Empty lines at the end are left out.
    """
    lines = [line.strip() for line in read_text(path, MAX_LIST_BYTES, strict=True).rstrip().splitlines()]
    if not lines:
        raise DataError(f"{path}: empty")
    seen = set[str]()
    for number, line in enumerate(lines, 1):
        if not line or line in seen:
            raise DataError(f"{path}: line {number} {'repeats ' + repr(line) if line else 'is empty'}")
        seen.add(line)
    return lines


def fetch(path: Path, urls: Iterable[str], sha256: str, limit: int, lacking: str) -> Path:
    """Download ``path`` from the first of ``urls`` that has the file with this checksum.

    The file appears only when all its bytes, at most ``limit``, are on disk and right. If no mirror has the file, a
    MissingDataError says ``lacking``, the fix, and the reason for every mirror.
    """
    reasons = []
    _remove_stale(path)
    for url in urls:
        try:
            with atomic_write(path) as partial:
                done = _download(url, path.name, partial, sha256, limit)
            print(f"{path.name}: {done / 1e6:.1f} MB", file=sys.stderr, flush=True)
            return path
        # HTTPException: a broken answer; ValueError: a malformed address.
        except (OSError, http.client.HTTPException, ValueError) as error:
            reasons.append(f"{url}: {' '.join(str(error).split()) or type(error).__name__}")
    raise missing(lacking, f"{path.name} could not be downloaded: {'; '.join(reasons) or 'no address is known'}")


def _remove_stale(path: Path) -> None:
    """Remove what a killed process has left."""
    with contextlib.suppress(OSError):
        for partial in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
            if time.time() - partial.stat().st_mtime > STALE:
                partial.unlink()


def _download(url: str, name: str, target: Path, sha256: str, limit: int) -> int:
    digest, done = hashlib.sha256(), 0
    with target.open("wb") as file, urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
        total = answer.headers.get("Content-Length") or ""
        size = int(total) if total.isdecimal() else None
        with track(f"downloading {name}", size, "byte", always=True) as report:
            while chunk := answer.read(CHUNK):
                done += len(chunk)
                if done > limit:
                    raise DataError(f"more than {limit:,} bytes")
                file.write(chunk)
                digest.update(chunk)
                report(done)
    if digest.hexdigest() != sha256:
        raise DataError(f"sha256 of the {done:,} bytes is {digest.hexdigest()[:12]}..., not {sha256[:12]}...")
    return done

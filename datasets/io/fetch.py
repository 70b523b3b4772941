"""Downloads: a published file arrives complete and with the right checksum, or not at all."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import http.client
import sys
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path

from comhe.errors import DataError

from .files import atomic_write, missing

CHUNK = 1 << 16
TIMEOUT = 20.0  # seconds without a byte before the next mirror is tried
STALE = 3600.0  # seconds after which an unfinished file is abandoned: a download finishes or fails sooner


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
                done, total = _download(url, path.name, partial, sha256, limit)
            _progress(path.name, done, total, end=True)
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


def _download(url: str, name: str, target: Path, sha256: str, limit: int) -> tuple[int, str | None]:
    digest, done = hashlib.sha256(), 0
    with target.open("wb") as file, urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
        total = answer.headers.get("Content-Length")
        while chunk := answer.read(CHUNK):
            done += len(chunk)
            if done > limit:
                raise DataError(f"more than {limit:,} bytes")
            file.write(chunk)
            digest.update(chunk)
            _progress(name, done, total)
    if digest.hexdigest() != sha256:
        raise DataError(f"sha256 of the {done:,} bytes is {digest.hexdigest()[:12]}..., not {sha256[:12]}...")
    return done, total


def _progress(name: str, done: int, total: str | None, end: bool = False) -> None:
    """Print one line on stderr: redrawn on a terminal, printed once elsewhere (a log wants no carriage returns)."""
    terminal = sys.stderr.isatty()
    if terminal or end:
        size = f" of {int(total) / 1e6:.1f}" if total and total.isdecimal() else ""
        line = f"{name}: {done / 1e6:.1f}{size} MB"
        print(f"\r{line}" if terminal else line, end="\n" if end else "", file=sys.stderr, flush=True)

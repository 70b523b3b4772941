"""What takes minutes to parse is parsed once: arrays kept on disk, for as long as the files they came from stay."""

import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from comhe.datasets.io.fetch import DataError


def cached(cache: Path, folder: Path, files: Sequence[str], kind: str, build: Callable[[], np.ndarray]) -> np.ndarray:
    """`build()`, or the array that it gave before for the same `files` of `folder` (their names, sizes and times).

    `kind` says what was made of the files; it changes with the code that makes it. Kept in the folder `cache` as one
    file for each `folder`, with numpy's own checksum; a copy that is damaged or of other files is replaced. Where it
    cannot be written nothing is kept.

    Raises:
        DataError: one of `files` is missing; and what `build` raises, after which nothing is kept.
    """
    digest = hashlib.sha256(f"{kind}\n".encode())
    for file in files:
        try:
            status = (folder / file).stat()
        except OSError as error:
            raise DataError(f"{folder / file}: cannot be read ({error.strerror or error})") from error
        digest.update(f"{file}\n{status.st_size} {status.st_mtime_ns}\n".encode())
    place = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]
    path = cache / f"comhe-{folder.name}-{place}.npz"
    if (array := _load(path, digest.hexdigest())) is None:
        array = build()
        with contextlib.suppress(OSError):
            _save(path, digest.hexdigest(), array)
    return array


def _load(path: Path, fingerprint: str) -> np.ndarray | None:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive["array"] if archive["fingerprint"] == fingerprint else None
    except Exception:  # zipfile and numpy raise whatever the damage makes them raise
        return None


def _save(path: Path, fingerprint: str, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, array=array, fingerprint=np.array(fingerprint))
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        with contextlib.suppress(FileNotFoundError):  # renamed
            os.unlink(name)


def counted(files: Sequence[str], name: str) -> Iterator[str]:
    """`files`, with a line on stderr that counts them where that is a terminal."""
    for i, file in enumerate(files):
        if i % 100 == 0 and sys.stderr.isatty():
            print(f"\r{name}: {i:,} of {len(files):,} files", end="", file=sys.stderr, flush=True)
        yield file
    if sys.stderr.isatty():
        print(f"\r{name}: {len(files):,} of {len(files):,} files", file=sys.stderr, flush=True)

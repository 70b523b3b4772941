"""Decoded images in a checked file, so that a set of small images is decoded once.

The file is a safetensors file in the data root, or in the user cache where that cannot be written. It holds the
fingerprint of what it was decoded from and a checksum of itself, and counts only while both are right.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from comhe.datasets.io.fetch import data_root, user_cache

FORMAT = "comhe images 1"


@dataclass(frozen=True)
class Decoded:
    """Images of one size in memory: `parts` has uint8 [n, h, w, 3] and int64 [n] for `train`, `test`, perhaps `val`."""

    classes: tuple[str, ...]
    parts: dict[str, tuple[np.ndarray, np.ndarray]]
    altered: str = ""  # files that are not the published ones


def fingerprint(files: Iterable[tuple[str, os.stat_result]]) -> str:
    """A checksum of names, sizes and times of modification."""
    digest = hashlib.sha256(FORMAT.encode())
    for name, status in files:
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def cached(name: str, source: Path, mark: str, root: str | Path | None, build: Callable[[], Decoded]) -> Decoded:
    """What `build` makes of `source`, from the cache where it holds the same; `mark` is the source's fingerprint.

    A cache that is damaged, truncated or of another source is replaced. One that cannot be written is done without.
    """
    file = f"comhe-{name}-{hashlib.sha256(os.fsencode(source.resolve())).hexdigest()[:12]}.safetensors"
    places = list(dict.fromkeys([data_root(root) / file, user_cache() / file]))
    for path in places:
        if (found := _read(path, mark)) is not None:
            return found
    result = build()
    for path in places:
        with contextlib.suppress(OSError, SafetensorError):
            _write(path, mark, result)
            break
    return result


def _tensors(decoded: Decoded) -> dict[str, np.ndarray]:
    kinds = ("pixels", "labels")
    return {f"{part}.{kind}": a for part, both in decoded.parts.items() for kind, a in zip(kinds, both, strict=True)}


def _checksum(tensors: dict[str, np.ndarray], *texts: str) -> str:
    digest = hashlib.sha256(json.dumps(texts).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        digest.update(tensors[name].data)
    return digest.hexdigest()


def _read(path: Path, mark: str) -> Decoded | None:
    try:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
            if about.get("fingerprint") != mark:
                return None
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
        if _checksum(tensors, mark, about["classes"], about["altered"]) != about["sha256"]:
            return None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    parts = {name.removesuffix(".pixels") for name in tensors if name.endswith(".pixels")}
    return Decoded(
        tuple(json.loads(about["classes"])),
        {part: (tensors[f"{part}.pixels"], tensors[f"{part}.labels"]) for part in parts},
        about["altered"],
    )


def _write(path: Path, mark: str, decoded: Decoded) -> None:
    tensors = {name: np.ascontiguousarray(a) for name, a in _tensors(decoded).items()}
    about = {"fingerprint": mark, "classes": json.dumps(decoded.classes), "altered": decoded.altered}
    about["sha256"] = _checksum(tensors, mark, about["classes"], about["altered"])
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    try:
        save_file(tensors, name, about)
        with open(name, "rb") as file:
            os.fsync(file.fileno())  # before the rename, as in fetch
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        with contextlib.suppress(FileNotFoundError):  # renamed
            os.unlink(name)

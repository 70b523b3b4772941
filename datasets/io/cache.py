"""Decoded data in a checked file, so that images and shapes are decoded only once.

The cache is a safetensors file in the data root, or in the user cache if the root is not writable. It stores the
fingerprint of the files that were decoded and its own checksum, and is used only while both match.
"""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from comhe.errors import DataError

from .files import atomic_write, data_root, user_cache

FORMAT = "comhe data 2"
Splits = dict[str, Any]  # samples and labels by split, as arrays


@dataclass(frozen=True)
class Decoded:
    """Samples [n, ...] and labels [n] of the splits ``train``, ``test`` and perhaps ``val``, as the files have them."""

    splits: Splits
    classes: tuple[str, ...]
    altered: str = ""  # the name of a file that differs from the published one


def cached(
    name: str, folder: Path, files: Sequence[str], root: str | Path | None, build: Callable[[], Decoded]
) -> Decoded:
    """Return ``build()``, or what it returned before for the same ``files`` of ``folder`` (names, sizes and times).

    ``name`` says how the files are decoded. A cache that is damaged or belongs to other files is replaced.
    """
    source = folder / files[0] if len(files) == 1 else folder
    file = f"comhe-{name}-{hashlib.sha256(os.fsencode(source.resolve())).hexdigest()[:12]}.safetensors"
    paths = list(dict.fromkeys([data_root(root) / file, user_cache() / file]))
    fingerprint = _fingerprint(name, folder, files)
    for path in paths:
        if (decoded := _read(path, fingerprint)) is not None:
            return decoded
    if len(files) > 1:
        print(f"{name}: decoding {len(files):,} files, once", file=sys.stderr, flush=True)
    decoded = build()
    for path in paths:
        with contextlib.suppress(OSError, SafetensorError):
            _write(path, fingerprint, decoded)
            break
    return decoded


def _fingerprint(name: str, folder: Path, files: Sequence[str]) -> str:
    digest = hashlib.sha256(f"{FORMAT} {name}".encode())
    for file in files:
        try:
            status = os.stat(os.path.join(folder, file))
        except OSError as error:
            raise DataError(f"{folder / file}: cannot be read ({error.strerror or error})") from error
        # A file that is renamed keeps its times; one that is written again may get its old time back.
        line = f"{file}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}\0{status.st_ino}\0"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _checksum(tensors: dict[str, np.ndarray], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        digest.update(tensors[name].data)
    return digest.hexdigest()


def _read(path: Path, fingerprint: str) -> Decoded | None:
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
            about = json.loads(metadata["about"])
            if about["fingerprint"] != fingerprint:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is not iterable
        if _checksum(tensors, metadata["about"]) != metadata["sha256"]:
            return None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError):
        return None
    splits = {split: (tensors[f"{split}.samples"], tensors[f"{split}.labels"]) for split in about["splits"]}
    return Decoded(splits, tuple(about["classes"]), about["altered"])


def _write(path: Path, fingerprint: str, decoded: Decoded) -> None:
    tensors = {
        f"{split}.{kind}": np.ascontiguousarray(array)
        for split, arrays in decoded.splits.items()
        for kind, array in zip(("samples", "labels"), arrays, strict=True)
    }
    facts = {"splits": list(decoded.splits), "classes": decoded.classes, "altered": decoded.altered}
    about = json.dumps({"fingerprint": fingerprint, **facts})
    with atomic_write(path) as partial:
        save_file(tensors, partial, {"about": about, "sha256": _checksum(tensors, about)})
        partial.chmod(0o644)  # safetensors gives 0600, which a shared data folder cannot use

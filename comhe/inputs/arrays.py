"""Arrays of numpy, from pickles and from ``.npy`` and ``.npz`` files, without numpy's own unpickling."""

import io
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from .pickles import Record, Unreadable, read_bytes, read_dtype, read_pickle

NPY = b"\x93NUMPY"
KINDS = "biufc"  # booleans and numbers
MAX_RATIO = 64  # of what a compressed archive claims to its size
BUILD = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
FROM_BUFFER = ("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer")


class Buffers:
    """The bytes that records stand for, each made once: arrays share them, as a small file may describe many."""

    def __init__(self) -> None:
        self._made: dict[int, bytearray] = {}

    def of(self, value: Any) -> bytearray:
        """Return bytes, in the forms that protocols 2 to 5 have for them."""
        if id(value) not in self._made:
            self._made[id(value)] = bytearray(read_bytes(value))
        return self._made[id(value)]

    def array(self, value: Any) -> np.ndarray | None:
        """Return the array of numbers that a record describes; None if it describes none."""
        if not isinstance(value, Record) or type(value.args) is not tuple:
            return None
        if value.name in BUILD and type(value.state) is tuple and len(value.state) == 5:
            _, shape, dtype, fortran, data = value.state
            return self._array(shape, dtype, "F" if fortran is True else "C", data)
        if value.name in FROM_BUFFER and len(value.args) == 4:
            data, dtype, shape, order = value.args
            return self._array(shape, dtype, order, data)
        return None

    def _array(self, shape: Any, dtype: Any, order: Any, data: Any) -> np.ndarray | None:
        kind = read_dtype(dtype)
        if kind is None or kind.kind not in KINDS:
            return None
        if type(shape) is not tuple or not all(type(side) is int and side >= 0 for side in shape) or len(shape) > 32:
            raise Unreadable("an array's shape is not a tuple of sensible numbers")
        flat = self.of(data)
        if math.prod(shape) * kind.itemsize != len(flat):
            raise Unreadable(f"an array of {list(shape)} numbers of type {kind} has {len(flat):,} bytes")
        return np.frombuffer(flat, kind).reshape(shape, order="F" if order == "F" else "C")


def read_npy(data: bytes) -> Any:
    """Return the array in an ``.npy`` file; of one of objects, what its pickle describes, with records."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, kind = read(stream)
    except Exception as error:  # numpy's reader raises whatever the damage makes it raise
        raise Unreadable("damaged: the header of an array is not one") from error
    if kind.hasobject:
        content = read_pickle(stream)
        state = content.state if isinstance(content, Record) and content.name in BUILD else None
        items = state[4] if type(state) is tuple and len(state) == 5 else None
        if type(items) is not list:
            raise Unreadable("an array of objects has none")
        return items[0] if len(items) == 1 else items
    body = bytearray(data[stream.tell() :])
    if kind.kind not in KINDS or math.prod(shape) * kind.itemsize != len(body):
        raise Unreadable(f"an array of {list(shape)} numbers of type {kind} has {len(body):,} bytes")
    array = np.frombuffer(body, kind).reshape(shape, order="F" if fortran else "C")
    return array.astype(kind.newbyteorder("="), copy=False)


def read_npz(path: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    """Return the arrays in an ``.npz`` file by name; an array of objects as :func:`read_npy`."""
    members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
    if sum(member.file_size for member in archive.infolist()) > MAX_RATIO * path.stat().st_size:
        raise Unreadable(f"it claims to have more than {MAX_RATIO} times the bytes of its file")
    return {member.filename.removesuffix(".npy"): read_npy(archive.read(member)) for member in members}

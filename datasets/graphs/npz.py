"""Graphs in ``.npz`` files: arrays by name, and sparse matrices as the three arrays of CSR."""

import math
import re
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from comhe.errors import DataError
from comhe.inputs.signatures import stand_in

from .fields import NAMES, OF_SPLITS, SPLITS

MAX_BYTES = 1 << 32  # of one array
UNSTORED, EXPANSION = 1 << 26, 200  # an array may unpack to so many bytes, or to so many times those that it takes
USED = {name for names in NAMES.values() for name in names} | {*SPLITS}
_PART = re.compile(r"(?P<name>.+)[._](?P<part>data|indices|indptr|shape)")


def read_npz(path: Path) -> dict[str, Any]:
    """Read the arrays of an ``.npz`` file that a graph may use; others are named, but not read, and no pickle is.

    ``x_data``, ``x_indices``, ``x_indptr`` and ``x_shape`` (or ``x.data`` ...) are the sparse matrix ``x``.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file" if not path.exists() else f"{path}: not a regular file")
    arrays: dict[str, np.ndarray] = {}
    others: list[str] = []
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.filename.endswith(".npy"):
                    name = member.filename.removesuffix(".npy")
                    matrix = _PART.fullmatch(name)
                    used = name.lower() in OF_SPLITS or not USED.isdisjoint({name, matrix["name"] if matrix else name})
                    if used and (array := _array(archive, member, path, needed=name != "node_names")) is not None:
                        arrays[name] = array
                    else:
                        others.append(f"{name} (words are saved by .astype(str))" if used else name)
    except DataError:
        raise
    except Exception as error:  # of zipfile, zlib and numpy's parser of headers: whatever the damage causes
        reason = stand_in(path) or " ".join(str(error).split())[:100] or type(error).__name__
        raise DataError(f"{path}: not an .npz file, or a damaged one ({reason})") from error
    return _with_matrices(arrays, path) | dict.fromkeys(others, "not read")


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, needed: bool) -> np.ndarray | None:
    """Read an array; None for one of objects that is not ``needed``."""
    size = member.file_size
    if size > MAX_BYTES or size > max(UNSTORED, EXPANSION * member.compress_size):
        hint = "; store sparse features as CSR"
        raise DataError(f"{path}: {member.filename[:60]!r} claims {size:,} bytes of {member.compress_size:,}{hint}")
    with archive.open(member) as stream:
        data = stream.read(size + 1)
    file = BytesIO(data)
    version = np.lib.format.read_magic(file)
    readers = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    shape, _, kind = readers[version[0]](file)
    if kind.kind not in "biufUS" or math.prod(shape) * kind.itemsize != len(data) - file.tell():
        hint = ""
        if kind.kind == "O":
            if not needed:
                return None
            name = member.filename.removesuffix(".npy")[:60]
            parts = ", ".join(f"{name}_{part}" for part in ("data", "indices", "indptr", "shape"))
            hint = f"; save a scipy matrix as the arrays {parts} of its CSR form, words by .astype(str)"
        raise DataError(
            f"{path}: {member.filename[:60]!r} is {str(kind)[:40]} {str(shape)[:60]}, which is not read here{hint}"
        )
    array = np.load(BytesIO(data), allow_pickle=False)
    return array.astype(np.str_) if array.dtype.kind == "S" else array


def _with_matrices(arrays: dict[str, np.ndarray], path: Path) -> dict[str, Any]:
    """Put CSR matrices together, once their indices are checked: scipy's compiled loops trust them."""
    from scipy.sparse import csr_array

    matches = {key: match for key in arrays if (match := _PART.fullmatch(key))}
    matrices = {match["name"] for match in matches.values() if match["part"] == "indptr"}  # no other array is called so
    matches = {key: match for key, match in matches.items() if match["name"] in matrices}
    result: dict[str, Any] = {key: array for key, array in arrays.items() if key not in matches}
    for name in dict.fromkeys(match["name"] for match in matches.values()):
        parts = {match["part"]: arrays[key] for key, match in matches.items() if match["name"] == name}
        if missing := {"data", "indices", "indptr", "shape"} - parts.keys():
            raise DataError(f"{path}: {name[:60]!r} lacks {', '.join(sorted(missing))} of a CSR matrix")
        data, indices, indptr, shape = (parts[part] for part in ("data", "indices", "indptr", "shape"))
        integers = all(part.dtype.kind in "iu" and part.ndim == 1 for part in (indices, indptr, shape))
        if not integers or len(shape) != 2 or data.shape != indices.shape or data.dtype.kind not in "biuf":
            raise DataError(f"{path}: {name[:60]!r} is not a CSR matrix of numbers")
        rows, columns = map(int, shape)
        is_sound = len(indptr) == rows + 1 and indptr[0] == 0 and indptr[-1] == len(data) and columns < 1 << 31
        if not is_sound or (np.diff(indptr.astype(np.int64)) < 0).any():
            raise DataError(f"{path}: the rows of the CSR matrix {name[:60]!r} do not fit its shape {[rows, columns]}")
        if len(indices) and not 0 <= indices.min() <= indices.max() < columns:
            raise DataError(f"{path}: the CSR matrix {name[:60]!r} has a column outside 0..{columns - 1}")
        data = data.astype(np.float32) if data.dtype.itemsize < 4 and data.dtype.kind == "f" else data
        result[name] = csr_array((data, indices.astype(np.int64), indptr.astype(np.int64)), shape=(rows, columns))
        result[name].sum_duplicates()
    return result

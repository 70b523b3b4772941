"""The files of ``torch.save``, ``pickle.dump`` and ``numpy.save``, read without executing anything in them."""

import io
import mmap
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from comhe.errors import first_line

from .arrays import NPY, Buffers, read_npy, read_npz
from .files import ARCHIVE_ERRORS
from .pickles import Record, Unreadable, read_pickle
from .signatures import named_archive, named_kind, named_part

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of files before torch 1.6
MAX_NUMBERS = 1 << 48
MAX_EXPANDED = 1 << 26  # bytes of memory that the expanded tensors of a file may take beyond what it stores
STORAGES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128, "UntypedStorage": torch.uint8,
    "QInt8Storage": torch.int8, "QUInt8Storage": torch.uint8, "QInt32Storage": torch.int32,  # as integers
    "QUInt4x2Storage": torch.uint8, "QUInt2x4Storage": torch.uint8,
}  # fmt: skip
PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
SUBCLASSES = ("torch._tensor._rebuild_from_type", "torch._tensor._rebuild_from_type_v2")
NESTED = "torch.storage._load_from_bytes"  # what pickle.dump writes of a storage: a file in the file
SPARSE = "torch._utils._rebuild_sparse_tensor"
SPARSE_LAYOUTS: dict[str, Callable[..., Tensor]] = {
    "torch.sparse_coo": torch.sparse_coo_tensor,
    "torch.sparse_csr": torch.sparse_csr_tensor,
    "torch.sparse_csc": torch.sparse_csc_tensor,
}
# An OSError says that the file itself cannot be read.
DAMAGE = tuple(kind for kind in ARCHIVE_ERRORS if kind is not OSError)
REBUILD = "torch._utils._rebuild_"  # what functions that make tensors begin with
DENSE = (f"{REBUILD}tensor", f"{REBUILD}tensor_v2", f"{REBUILD}tensor_v3")
WRAPPER = f"{REBUILD}wrapper_subclass"

Storages = Callable[[Any], bytearray]  # the bytes of a storage, by its key


class Sharded(Tensor):
    """What stands for a tensor of which a file has the part of one process: it has a shape and no numbers."""


class Checkpoint:
    """What a file holds: plain values and records, and the tensors and arrays among these on request."""

    def __init__(self, content: Any, storage: Storages) -> None:
        self.content, self._storage = content, storage
        self._read: dict[Any, bytearray] = {}
        self._buffers, self._inside, self._expanded = Buffers(), dict[int, Checkpoint](), 0

    def array(self, value: Any) -> Tensor | None:
        """Return the array of numbers that a record describes, as a tensor; None if it describes none."""
        array = value if isinstance(value, np.ndarray) else self._buffers.array(value)
        return None if array is None else torch.from_numpy(array)

    def sparse(self, value: Any) -> Tensor | None:
        """Return the sparse tensor, COO, CSR or CSC, that a record describes; None if it describes none."""
        if not isinstance(value, Record) or value.name != SPARSE or not value.args or len(value.args) != 2:
            return None
        layout, parts = value.args
        name = next(iter(layout.args), "") if isinstance(layout, Record) and layout.args else ""
        make = SPARSE_LAYOUTS.get(str(name))
        if make is None or type(parts) is not tuple:
            raise Unreadable("a sparse tensor is of an unknown kind")
        *tensors, size = parts[:3] if name == "torch.sparse_coo" else parts[:4]
        found = [self.tensor(part) for part in tensors]
        if any(part is None or part.is_meta for part in found):
            raise Unreadable("a sparse tensor is not stored in full")
        return make(*found, size=_sizes(size), check_invariants=True)

    def tensor(self, value: Any) -> Tensor | None:
        """Return the tensor that a record describes; None if it describes none.

        One that is not dense, or whose expansion takes too much memory, is on the meta device, with its shape at most.
        """
        depth = 0
        while isinstance(value, Record) and value.args and value.name in PARAMETERS + SUBCLASSES:
            value, depth = self._inner(value), depth + 1
            if depth > 4:
                raise Unreadable("tensors in tensors")
        if not isinstance(value, Record) or value.args is None or not value.name.startswith(REBUILD):
            return None
        args = value.args
        if value.name == WRAPPER and isinstance(value.state, dict) and "_local_tensor" in value.state:
            return self._sharded(args, value.state)
        if value.name in DENSE[:2]:
            storage, offset, size, stride, *_ = args
            return self._dense(storage, offset, size, stride, None)
        if value.name == DENSE[2]:
            storage, offset, size, stride, _, _, dtype, *_ = args
            kind = getattr(torch, dtype.name.removeprefix("torch."), None) if isinstance(dtype, Record) else None
            if not isinstance(kind, torch.dtype):
                raise Unreadable("a tensor has an unknown type of numbers")
            return self._dense(storage, offset, size, stride, kind)
        return torch.empty(0, device="meta")

    def _nested(self, data: Any) -> "Checkpoint":
        if id(data) not in self._inside:
            whole = bytes(self._buffers.of(data))
            self._inside[id(data)] = _old(io.BytesIO(whole), whole)
        return self._inside[id(data)]

    def _inner(self, value: Record) -> Any:
        assert value.args is not None
        if value.name in PARAMETERS:
            return value.args[0]
        function, _, args, *state = value.args
        if not isinstance(function, Record) or type(args) is not tuple:
            raise Unreadable("a tensor's class is not one")
        slots = state[0] if state and type(state[0]) is tuple else state  # a pair: of no slots, and of slots
        return Record(function.name, args, next((each for each in slots if isinstance(each, dict)), None))

    def _sharded(self, args: tuple, state: dict) -> Tensor:
        """A tensor that is sharded over processes (DTensor): its numbers if the process that saved it had all."""
        size, local = _sizes(args[2]), state["_local_tensor"]
        summed = any(isinstance(each, Record) and each.name.endswith(".Partial") for each in walk(state.get("_spec")))
        if isinstance(local, Record) and local.name in DENSE and not summed:
            part = self.tensor(local)
            if part is not None and part.shape == size:
                return part
        return torch.empty(size, device="meta").as_subclass(Sharded)

    def _dense(self, storage: Any, offset: Any, size: Any, stride: Any, dtype: torch.dtype | None) -> Tensor:
        size, stride = _sizes(size), _sizes(stride)
        if not isinstance(storage, Record) or type(offset) is not int or offset < 0:
            raise Unreadable("a tensor has no storage")
        origin = self
        if storage.name == NESTED and storage.args:
            origin = self._nested(storage.args[0])
            storage = origin.content
        if not isinstance(storage, Record) or storage.name != "persistent":
            raise Unreadable("a tensor has no storage")
        kind, key, count, start = _storage_id(storage.args or ())
        dtype = dtype or STORAGES[kind]
        if len(size) != len(stride):
            raise Unreadable("a tensor's shape and strides do not fit together")
        numbers = 1
        for side in size:
            numbers *= side
        last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True)) if numbers else -1
        if numbers > MAX_NUMBERS:
            raise Unreadable("a tensor's shape is not sensible")
        more = max(0, numbers - (last - offset + 1)) * dtype.itemsize if numbers else 0  # a number stands for several
        if more > MAX_EXPANDED - self._expanded:
            return torch.empty(size, dtype=dtype, device="meta")
        self._expanded += more
        if key not in origin._read:
            origin._read[key] = origin._storage(key)
        data = origin._read[key]
        if start < 0 or (start + count) * STORAGES[kind].itemsize > len(data):
            raise Unreadable(f"a storage of {len(data):,} bytes should have {count:,} numbers")
        if (start * STORAGES[kind].itemsize) + (last + 1) * dtype.itemsize > len(data):
            raise Unreadable("a tensor goes beyond the end of its storage")
        if not numbers:
            return torch.empty(size, dtype=dtype)
        first = start * STORAGES[kind].itemsize + offset * dtype.itemsize
        flat = torch.frombuffer(data, dtype=dtype, count=last - offset + 1, offset=first)
        return flat.as_strided(size, stride)


def _sizes(value: Any) -> tuple[int, ...]:
    if isinstance(value, Record) and value.name == "torch.Size" and value.args:
        value = value.args[0]
    if type(value) not in (tuple, list) or not all(type(n) is int and 0 <= n <= MAX_NUMBERS for n in value):
        raise Unreadable("a tensor's shape is not a tuple of sensible numbers")
    if len(value) > 64:
        raise Unreadable("a tensor has more than 64 dimensions")
    return tuple(value)


def _storage_id(args: tuple) -> tuple[str, Any, int, int]:
    """Return type, key, number of numbers and, in old files, where the view of a storage begins."""
    tag, kind, key, _, count, *view = args
    name = kind.name.rpartition(".")[2] if isinstance(kind, Record) else None
    if tag != "storage" or name not in STORAGES or type(key) not in (str, int) or type(count) is not int or count < 0:
        raise Unreadable(f"a storage is of an unknown kind ({str(name)[:60]!r})")
    if view and view[0] is not None:
        _, start, count = view[0]
        if type(start) is not int or type(count) is not int or count < 0:
            raise Unreadable("a view of a storage is of an unknown kind")
        return name, key, count, start
    return name, key, count, 0


def open_checkpoint(path: Path) -> Checkpoint:
    """Read a file of ``torch.save``, ``pickle.dump``, ``numpy.save`` or ``savez``, whatever it is called.

    Raises:
        Unreadable: what another file is, or why this one is not read
    """
    try:
        if part := named_part(path):
            raise Unreadable(part)
        if zipfile.is_zipfile(path):
            return _zip(path)
        with path.open("rb") as file:
            if not (start := file.read(8)).startswith((b"\x80", NPY)):
                raise Unreadable(named_kind(path) or "not a file of torch.save")
        if start.startswith(NPY):
            return Checkpoint(read_npy(path.read_bytes()), _no_storage)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _old(data, data)
    except DAMAGE as error:
        raise _damaged(error) from error


def _no_storage(key: Any) -> bytearray:
    raise Unreadable(f"it lacks the storage {str(key)[:60]!r}")


def _damaged(error: Exception) -> Unreadable:
    return Unreadable(f"a damaged archive: {first_line(error)[:200]}")


def _zip(path: Path) -> Checkpoint:
    """The format since torch 1.6: an archive of a pickle and of the storages, none of them compressed."""
    archive = zipfile.ZipFile(path)  # closed with the last reference to it, since storages are read when asked for
    members = {member.filename: member for member in archive.infolist()}
    pickles = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if not pickles and members and all(name.endswith(".npy") for name in members):
        return Checkpoint(read_npz(path, archive), _no_storage)
    if len(pickles) != 1:
        raise Unreadable(named_archive(members) or "a zip file, but not of torch.save: it has no data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    ours = (root + "data.pkl", root + "data/", root + "byteorder")  # TorchScript has code as well, which is compressed
    read = [member for member in archive.infolist() if member.filename.startswith(ours)]
    claimed = sum(member.file_size for member in read)
    if claimed > path.stat().st_size or any(member.compress_type != zipfile.ZIP_STORED for member in read):
        raise Unreadable("its members are compressed or overlap: they claim more bytes than it has")

    def member(name: str) -> bytes:
        if root + name not in members or not (root + name).startswith(ours):
            raise Unreadable(f"it lacks its part {name[:60]!r}")
        try:
            return archive.read(root + name)
        except DAMAGE as error:
            raise _damaged(error) from error

    if f"{root}byteorder" in members and member("byteorder") != b"little":
        raise Unreadable("its numbers are big-endian")
    return Checkpoint(read_pickle(member("data.pkl")), lambda key: bytearray(member(f"data/{key}")))


def _old(stream: Any, data: Any) -> Checkpoint:
    """The format before torch 1.6: pickles one after the other, then the storages; or one pickle that is no such file.

    ``stream`` and ``data`` are the same bytes, as a file and as a sequence.
    """
    first = read_pickle(stream)
    if first != MAGIC:
        return Checkpoint(first, _no_storage)
    if read_pickle(stream) != PROTOCOL:
        raise Unreadable("a file of torch.save in an unknown version")
    if (read_pickle(stream) or {}).get("little_endian") is not True:
        raise Unreadable("its numbers are big-endian")
    content, keys = read_pickle(stream), read_pickle(stream)
    if type(keys) is not list or not all(type(key) in (str, int) for key in keys):
        raise Unreadable("damaged: it does not list its storages")
    widths = dict(_widths(content))
    storages: dict[Any, bytearray] = {}
    position = stream.tell()
    for key in keys:
        count = int.from_bytes(data[position : position + 8], "little", signed=True)
        size = count * widths.get(key, 1)
        if count < 0 or position + 8 + size > len(data):
            raise Unreadable("truncated: a storage goes beyond its end")
        storages[key] = bytearray(data[position + 8 : position + 8 + size])
        position += 8 + size
    return Checkpoint(content, storages.__getitem__)


def _widths(content: Any) -> Iterator[tuple[Any, int]]:
    """The bytes of a number of each storage, by its key."""
    for value in walk(content):
        if isinstance(value, Record) and value.name == "persistent":
            kind, key, _, _ = _storage_id(value.args or ())
            yield key, STORAGES[kind].itemsize


def walk(content: Any) -> Iterator[Any]:
    """Every value in nested ones, each once; cycles and depth do no harm."""
    stack, seen = [content], set()
    while stack:
        value = stack.pop()
        if isinstance(value, dict | list | tuple | Record):
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, Record):
                stack += [value.args, value.state, value.items]
            else:
                stack += value.values() if isinstance(value, dict) else value
        yield value

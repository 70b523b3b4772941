"""The files of ``torch.save``, old and new, read without executing anything in them."""

import mmap
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .pickles import Record, Unreadable, read_pickle

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of files before torch 1.6
MAX_NUMBERS = 1 << 48
STORAGES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128, "UntypedStorage": torch.uint8,
}  # fmt: skip
PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
SUBCLASSES = ("torch._tensor._rebuild_from_type", "torch._tensor._rebuild_from_type_v2")
REBUILD = "torch._utils._rebuild_"  # what functions that make tensors begin with

ARCHIVE_ERRORS = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, struct.error)

Storages = Callable[[Any], bytearray]  # the bytes of a storage, by its key


class Checkpoint:
    """What a file of ``torch.save`` holds: plain values and records, and the tensors among these on request."""

    def __init__(self, content: Any, storage: Storages) -> None:
        self.content, self._storage = content, storage
        self._read: dict[Any, bytearray] = {}

    def tensor(self, value: Any) -> Tensor | None:
        """Return the tensor that a record describes; None if it describes none.

        One that is not dense, or not stored in full, is on the meta device: it has a shape at most.
        """
        depth = 0
        while isinstance(value, Record) and value.args and value.name in PARAMETERS + SUBCLASSES:
            value, depth = self._inner(value), depth + 1
            if depth > 4:
                raise Unreadable("tensors in tensors")
        if not isinstance(value, Record) or value.args is None or not value.name.startswith(REBUILD):
            return None
        args = value.args
        if value.name.endswith(("_rebuild_tensor", "_rebuild_tensor_v2")):
            storage, offset, size, stride, *_ = args
            return self._dense(storage, offset, size, stride, None)
        if value.name.endswith("_rebuild_tensor_v3"):
            storage, offset, size, stride, _, _, dtype, *_ = args
            kind = getattr(torch, dtype.name.removeprefix("torch."), None) if isinstance(dtype, Record) else None
            if not isinstance(kind, torch.dtype):
                raise Unreadable("a tensor has an unknown type of numbers")
            return self._dense(storage, offset, size, stride, kind)
        return torch.empty(0, device="meta")

    def _inner(self, value: Record) -> Any:
        assert value.args is not None
        if value.name in PARAMETERS:
            return value.args[0]
        function, _, args, *_ = value.args
        if not isinstance(function, Record) or type(args) is not tuple:
            raise Unreadable("a tensor's class is not one")
        return Record(function.name, args)

    def _dense(self, storage: Any, offset: Any, size: Any, stride: Any, dtype: torch.dtype | None) -> Tensor:
        size, stride = _sizes(size), _sizes(stride)
        if not isinstance(storage, Record) or storage.name != "persistent" or type(offset) is not int or offset < 0:
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
        if numbers > 1 and numbers > last - offset + 1:  # one number stands for several
            return torch.empty(size, dtype=dtype, device="meta")
        if key not in self._read:
            self._read[key] = self._storage(key)
        data = self._read[key]
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
        raise Unreadable("a storage is of an unknown kind")
    if view and view[0] is not None:
        _, start, count = view[0]
        if type(start) is not int or type(count) is not int or count < 0:
            raise Unreadable("a view of a storage is of an unknown kind")
        return name, key, count, start
    return name, key, count, 0


def open_checkpoint(path: Path) -> Checkpoint:
    """Read a file of ``torch.save``; Unreadable says why another one is not read."""
    try:
        return _zip(path) if zipfile.is_zipfile(path) else _old(path)
    except ARCHIVE_ERRORS as error:
        raise _damaged(error) from error


def _damaged(error: Exception) -> Unreadable:
    return Unreadable(f"a damaged archive: {(str(error).splitlines() or [type(error).__name__])[0][:200]}")


def _zip(path: Path) -> Checkpoint:
    """The format since torch 1.6: an archive of a pickle and of the storages, none of them compressed."""
    archive = zipfile.ZipFile(path)  # closed with the last reference to it, since storages are read when asked for
    members = {member.filename: member for member in archive.infolist()}
    pickles = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise Unreadable("a zip file, but not of torch.save: it has no data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    if any(name.startswith(f"{root}code/") for name in members):
        raise Unreadable("a TorchScript program; load it with torch.jit.load and save its state_dict()")
    claimed = sum(member.file_size for member in archive.infolist())
    if claimed > path.stat().st_size or any(m.compress_type != zipfile.ZIP_STORED for m in members.values()):
        raise Unreadable("its members are compressed or overlap: they claim more bytes than it has")

    def member(name: str) -> bytes:
        if root + name not in members:
            raise Unreadable(f"it lacks its part {name[:60]!r}")
        try:
            return archive.read(root + name)
        except ARCHIVE_ERRORS as error:
            raise _damaged(error) from error

    if f"{root}byteorder" in members and member("byteorder") != b"little":
        raise Unreadable("its numbers are big-endian")
    return Checkpoint(read_pickle(member("data.pkl")), lambda key: bytearray(member(f"data/{key}")))


def _old(path: Path) -> Checkpoint:
    """The format before torch 1.6: pickles one after the other, then the storages."""
    if not path.stat().st_size:
        raise Unreadable("empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[257:262] == b"ustar":
            raise Unreadable("a tar archive; unpack it, or load it with torch and save the state dict alone")
        if data[:1] != b"\x80" or read_pickle(data) != MAGIC or read_pickle(data) != PROTOCOL:
            raise Unreadable("not a file of torch.save")
        if (read_pickle(data) or {}).get("little_endian") is not True:
            raise Unreadable("its numbers are big-endian")
        content, keys = read_pickle(data), read_pickle(data)
        if type(keys) is not list or not all(type(key) in (str, int) for key in keys):
            raise Unreadable("damaged: it does not list its storages")
        widths = dict(_widths(content))
        places: dict[Any, tuple[int, int]] = {}
        position = data.tell()
        for key in keys:
            count = int.from_bytes(data[position : position + 8], "little", signed=True)
            size = count * widths.get(key, 1)
            if count < 0 or position + 8 + size > len(data):
                raise Unreadable("truncated: a storage goes beyond its end")
            places[key] = (position + 8, size)
            position += 8 + size

    def storage(key: Any) -> bytearray:
        start, size = places[key]
        with path.open("rb") as file:
            file.seek(start)
            return bytearray(file.read(size))

    return Checkpoint(content, storage)


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

"""A reader for pickles of one array, one CSR matrix or one dictionary of lists and arrays, and nothing else.

A pickle is a program, and `pickle.Unpickler` runs it: with a restricted `find_class` it still calls numpy's and
scipy's constructors on whatever state the file gives them, and allocates whatever size the file asks for. This reader
runs the few instructions that such files need on inert records: a global is looked up in a table and becomes a record,
never an import; "call" and "build" fill records; the result becomes an array only after it was checked.

Protocols 2 to 5 are read, as written by Python 2 and 3 with the module names of old and new numpy and scipy.
"""

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from comhe.errors import DataError

MAX_STEPS = 1_000_000  # the largest published graph takes 180,000; bounds the memory that a small file can claim
MAX_SIDE = 10_000_000  # rows or columns

# Every global that may appear, under each module name it has had.
GLOBALS = {
    ("__builtin__", "list"): "list",
    ("builtins", "list"): "list",
    ("collections", "defaultdict"): "defaultdict",
    ("_codecs", "encode"): "encode",  # how Python 3 writes bytes in protocol 2
    ("numpy", "dtype"): "dtype",
    ("numpy", "ndarray"): "ndarray",
    ("numpy.core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy._core.multiarray", "_reconstruct"): "reconstruct",
    ("scipy.sparse.csr", "csr_matrix"): "csr_matrix",
    ("scipy.sparse._csr", "csr_matrix"): "csr_matrix",
}
DTYPES = {"i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"}  # no objects, no records


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass
class _Dtype:
    code: str
    order: str = "="


@dataclass
class _Array:
    value: np.ndarray | None = None


@dataclass
class _Matrix:
    state: dict[Any, Any] | None = None


class _Refused(Exception):
    """The reason why a pickle is not read; `unpickle` adds the file's name."""


def unpickle(data: bytes, name: object) -> np.ndarray | csr_array | dict:
    """Read the one array, CSR matrix or dictionary in a pickle.

    An array is read-only and may have any plain number type. A matrix has indices in range, sorted and distinct. Keys
    of a dictionary are int, str or bytes; its values are unchecked, but can only be plain Python objects, and arrays in
    the byte order of the file.

    ``name`` is the file's, for the message.

    Raises:
        DataError: There is a global, an instruction, a type or a size that such a file does not need, or damage.
    """
    try:
        return _result(_Machine(data).run())
    except _Refused as error:
        raise DataError(f"{name}: {error}") from None
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, AttributeError, RecursionError) as error:
        # Only what a damaged stream can cause in the machine: an empty stack, an unknown memo, a wrong operand.
        raise DataError(f"{name}: damaged or not such a pickle ({type(error).__name__})") from error


def _result(top: object) -> np.ndarray | csr_array | dict:
    if isinstance(top, dict):
        # As they are stored: one array may be the value of any number of keys, and must not be copied for each.
        return {key: _contents(value) if isinstance(value, _Array) else value for key, value in top.items()}
    if isinstance(top, _Array):
        return _value(top)
    if isinstance(top, _Matrix):
        return _matrix(top)
    raise _Refused(f"contains a {type(top).__name__.strip('_').lower()}, not an array, a CSR matrix or a dictionary")


def _contents(array: object) -> np.ndarray:
    if not isinstance(array, _Array) or array.value is None:
        raise _Refused("an array has no contents")
    return array.value


def _value(array: object) -> np.ndarray:
    value = _contents(array)
    return value.astype(value.dtype.newbyteorder("="), copy=False)


def _matrix(matrix: _Matrix) -> csr_array:
    state = {_text(key): value for key, value in (matrix.state or {}).items()}
    data, indices, indptr = (_value(state.get(key)) for key in ("data", "indices", "indptr"))
    shape = state.get("_shape", state.get("shape"))
    if (
        type(shape) is not tuple
        or len(shape) != 2
        or not all(_is_int(side) and 0 <= side <= MAX_SIDE for side in shape)
    ):
        raise _Refused("the matrix's shape is not two sensible numbers")
    if not (data.ndim == indices.ndim == indptr.ndim == 1 and indices.dtype.kind == indptr.dtype.kind == "i"):
        raise _Refused("the matrix does not consist of vectors of values, int indices and int row pointers")
    rows, columns = shape
    if len(indptr) != rows + 1 or len(indices) != len(data):
        raise _Refused("the vectors of the matrix do not fit together")
    # scipy's compiled loops trust these; out of range they read and write foreign memory.
    if indptr[0] != 0 or indptr[-1] != len(data) or (indptr[1:] < indptr[:-1]).any():
        raise _Refused("the matrix's row pointers do not rise from 0 to the number of values")
    if len(indices) and (indices.min() < 0 or indices.max() >= columns):
        raise _Refused(f"a column index of the matrix is outside 0..{columns - 1}")
    # copies: what frombuffer gave is read-only, and sum_duplicates works in place
    result = csr_array((data.copy(), indices.astype(np.int64), indptr.astype(np.int64)), shape=shape)
    result.sum_duplicates()
    return result


def _text(value: object) -> str:
    """Python 2 wrote its names as byte strings."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, str):
        return value
    raise _Refused("a name is not a string")


def _is_int(value: object) -> bool:
    return type(value) is int  # a bool is an int too, but not a count


class _Machine:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.stack: list = []
        self.below: list[list] = []  # the stacks under the open marks
        self.memo: dict[int, object] = {}
        self.encoded = 0

    def run(self) -> object:
        for _ in range(MAX_STEPS):
            code = self.take(1)
            if code == b".":
                break
            step = STEPS.get(code)
            if step is None:
                raise _Refused(f"instruction {code!r} at byte {self.at - 1} does not belong in such a file")
            step(self)
        else:
            raise _Refused(f"more than {MAX_STEPS:,} instructions")
        if self.at != len(self.data) or self.below or len(self.stack) != 1:
            raise _Refused("damaged: something is left over at its end")
        return self.stack[0]

    def take(self, count: int) -> bytes:
        piece = self.data[self.at : self.at + count] if count >= 0 else b""
        if len(piece) != count:
            raise _Refused(f"truncated or damaged: {count} bytes wanted at byte {self.at} of {len(self.data)}")
        self.at += count
        return piece

    def number(self, layout: str) -> int:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> str:
        end = self.data.find(b"\n", self.at, self.at + 200)
        if end < 0:
            raise _Refused(f"truncated or damaged: no name at byte {self.at}")
        line = self.take(end - self.at).decode("latin-1")
        self.at += 1
        return line

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        return self.stack.pop()

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list:
        items, self.stack = self.stack, self.below.pop()
        return items

    def tuple(self, count: int) -> None:
        items = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(items)))

    def extend(self, items: list) -> None:
        if type(self.stack[-1]) is not list:
            raise _Refused("appends to something that is not a list")
        self.stack[-1].extend(items)

    def set_items(self, items: list) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise _Refused("sets items of something that is not a dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # The hash of a deeply nested tuple would overflow the C stack.
            if type(key) not in (int, str, bytes):
                raise _Refused("a key of a dictionary is neither a number nor a string")
            target[key] = value

    def find(self, module: str, name: str) -> None:
        kind = GLOBALS.get((module, name))
        if kind is None:
            raise _Refused(f"asks for the global {f'{module}.{name}'!r}, which such a file does not need; refused")
        self.push(_Global(kind))

    def call(self) -> None:
        args, function = self.pop(), self.pop()
        kind = function.name if isinstance(function, _Global) else None
        if type(args) is not tuple:
            kind = None
        if kind == "list" and args == ():
            self.push([])
        elif kind == "defaultdict" and args == (_Global("list"),):
            self.push({})
        elif kind == "encode" and args[1:] == ("latin1",):
            # The same string may be encoded again and again: a small file would fill the memory.
            self.encoded += len(args[0])
            if self.encoded > len(self.data):
                raise _Refused("encodes more bytes than it has")
            self.push(args[0].encode("latin-1"))
        elif kind == "dtype" and _text(args[0]) in DTYPES:
            self.push(_Dtype(_text(args[0])))
        elif kind == "reconstruct" and args[0] == _Global("ndarray"):
            self.push(_Array())
        elif kind == "csr_matrix" and args == ():
            self.push(_Matrix())
        else:
            raise _Refused(f"a call of {kind or 'something that is not a function'} with unexpected arguments")

    def build(self) -> None:
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, _Dtype):
            target.order = _text(state[1])
            if target.order not in tuple("<>|="):
                raise _Refused("a number type has an unknown byte order")
        elif isinstance(target, _Array):
            target.value = _array(state)
        elif isinstance(target, _Matrix) and type(state) is dict:
            target.state = state
        else:
            raise _Refused("gives a state to something that has none")


def _array(state: tuple) -> np.ndarray:
    _, shape, dtype, fortran, data = state
    if type(shape) is not tuple or not all(_is_int(side) and 0 <= side <= 2**31 for side in shape) or len(shape) > 2:
        raise _Refused("an array's shape is not one or two sensible numbers")
    if not isinstance(dtype, _Dtype) or type(data) is not bytes:
        raise _Refused("an array has no plain numbers")
    kind = np.dtype(dtype.code).newbyteorder(dtype.order)  # type: ignore[arg-type]
    if math.prod(shape) * kind.itemsize != len(data):
        raise _Refused(f"an array of shape {shape} and type {dtype.code} has {len(data):,} bytes")
    # A view, not a copy: one string in the file may be the contents of any number of arrays.
    return np.frombuffer(data, kind).reshape(shape, order="F" if fortran is True else "C")


def _protocol(machine: _Machine) -> None:
    version = machine.number("<B")
    if not 2 <= version <= 5:
        raise _Refused(f"pickle protocol {version}, where 2 to 5 are read")


def _memoize(machine: _Machine, key: int) -> None:
    machine.memo[key] = machine.stack[-1]


STEPS = {
    b"\x80": _protocol,
    b"\x95": lambda m: m.take(8),  # a frame's length, of no use to a reader that has the whole file
    b"(": _Machine.mark,
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"J": lambda m: m.push(m.number("<i")),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"\x8a": lambda m: m.push(int.from_bytes(m.take(m.number("<B")), "little", signed=True)),
    b"T": lambda m: m.push(m.take(m.number("<i"))),  # a byte string of Python 2
    b"U": lambda m: m.push(m.take(m.number("<B"))),
    b"B": lambda m: m.push(m.take(m.number("<I"))),
    b"C": lambda m: m.push(m.take(m.number("<B"))),
    b"\x8e": lambda m: m.push(m.take(m.number("<Q"))),
    b"X": lambda m: m.push(m.take(m.number("<I")).decode()),
    b"\x8c": lambda m: m.push(m.take(m.number("<B")).decode()),
    b"\x8d": lambda m: m.push(m.take(m.number("<Q")).decode()),
    b")": lambda m: m.push(()),
    b"]": lambda m: m.push([]),
    b"}": lambda m: m.push({}),
    b"t": lambda m: m.push(tuple(m.pop_mark())),
    b"\x85": lambda m: m.tuple(1),
    b"\x86": lambda m: m.tuple(2),
    b"\x87": lambda m: m.tuple(3),
    b"a": lambda m: m.extend([m.pop()]),
    b"e": lambda m: m.extend(m.pop_mark()),
    b"s": lambda m: m.set_items([m.pop(), m.pop()][::-1]),
    b"u": lambda m: m.set_items(m.pop_mark()),
    b"q": lambda m: _memoize(m, m.number("<B")),
    b"r": lambda m: _memoize(m, m.number("<I")),
    b"\x94": lambda m: _memoize(m, len(m.memo)),
    b"h": lambda m: m.push(m.memo[m.number("<B")]),
    b"j": lambda m: m.push(m.memo[m.number("<I")]),
    b"c": lambda m: m.find(m.line(), m.line()),
    b"\x93": lambda m: m.find(*(_text(name) for name in [m.pop(), m.pop()][::-1])),
    b"\x81": _Machine.call,
    b"R": _Machine.call,
    b"b": _Machine.build,
}

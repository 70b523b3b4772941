"""A reader for pickles of one array, one CSR matrix or one dictionary of lists and arrays, and nothing else.

A pickle is a program, and `pickle.Unpickler` runs it: with a restricted `find_class` it still calls numpy's and
scipy's constructors on whatever state the file gives them, and allocates whatever size the file asks for. This reader
runs the few instructions that such files need on inert records: a global is looked up in a table and becomes a record,
never an import; "call" and "build" fill records; the result becomes an array only after it was checked.

Protocols 2 to 5 are read, as written by Python 2 and 3 with the module names of old and new numpy and scipy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pickletools import genops
from typing import TYPE_CHECKING, Any

import numpy as np

from comhe.errors import DataError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

MAX_STEPS = 1_000_000  # the largest published graph takes 180,000; bounds the memory that a small file can claim
MAX_SIDE = 10_000_000  # rows or columns

# Every global that may appear, under each module name it has had.
GLOBALS = {
    "__builtin__ list": "list",
    "builtins list": "list",
    "collections defaultdict": "defaultdict",
    "_codecs encode": "encode",  # how Python 3 writes bytes in protocol 2
    "numpy dtype": "dtype",
    "numpy ndarray": "ndarray",
    "numpy.core.multiarray _reconstruct": "reconstruct",
    "numpy._core.multiarray _reconstruct": "reconstruct",
    "scipy.sparse.csr csr_matrix": "csr_matrix",
    "scipy.sparse._csr csr_matrix": "csr_matrix",
}
DTYPES = {"i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"}  # no objects, no records
# The number of operands of an instruction.
POPPED = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "APPEND": 1, "SETITEM": 2, "STACK_GLOBAL": 2, "REDUCE": 2, "NEWOBJ": 2}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


@dataclass
class _Record:
    """What stands for a global (its name is the value), a number type (its code), an array or a matrix (its state)."""

    kind: str
    value: Any = None


LIST, NDARRAY = _Record("global", "list"), _Record("global", "ndarray")


class _Refused(Exception):
    """The reason why a pickle is not read; `unpickle` adds the file's name."""


def unpickle(data: bytes, name: object) -> np.ndarray | csr_array | dict:
    """Read the one array, CSR matrix or dictionary in a pickle.

    An array is read-only. A matrix has indices in range, sorted and distinct. Keys of a dictionary are int, str or
    bytes; its values are unchecked, but can only be plain Python objects, and arrays in the byte order of the file.

    A global, an instruction, a type or a size that such a file does not need, or damage, is a DataError with ``name``.
    """
    try:
        return _result(_run(data))
    except _Refused as error:
        raise DataError(f"{name}: {error}") from None
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, AttributeError, RecursionError) as error:
        # Only what a damaged stream can cause in the machine: an empty stack, an unknown memo, a wrong operand.
        raise DataError(f"{name}: damaged or not such a pickle ({type(error).__name__})") from error


def _result(top: object) -> np.ndarray | csr_array | dict:
    if isinstance(top, dict):
        # As they are stored: one array may be the value of any number of keys, and must not be copied for each.
        return {key: _contents(value) if _kind(value) == "array" else value for key, value in top.items()}
    if _kind(top) in ("array", "matrix"):
        return _value(top) if _kind(top) == "array" else _matrix(top)
    raise _Refused(f"contains a {_kind(top)}, not an array, a CSR matrix or a dictionary")


def _kind(value: object) -> str:
    return value.kind if isinstance(value, _Record) else type(value).__name__


def _contents(array: Any) -> np.ndarray:
    if _kind(array) != "array" or array.value is None:
        raise _Refused("an array has no contents")
    return array.value


def _value(array: object) -> np.ndarray:
    value = _contents(array)
    return value.astype(value.dtype.newbyteorder("="), copy=False)


def _matrix(matrix: Any) -> csr_array:
    state = {_text(key): value for key, value in (matrix.value or {}).items()}
    data, indices, indptr = (_value(state.get(key)) for key in ("data", "indices", "indptr"))
    shape: Any = state.get("_shape", state.get("shape"))
    if not _is_shape(shape, MAX_SIDE) or len(shape) != 2:
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
    from scipy.sparse import csr_array  # half a second that an import should not take

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


def _is_shape(value: object, most: int) -> bool:
    """A bool is an int too, but not a size."""
    return type(value) is tuple and all(type(side) is int and 0 <= side <= most for side in value)


def _run(data: bytes) -> object:
    """Run the instructions, which pickletools splits without running any."""
    stack: list[Any] = []
    below: list[list] = []  # the stacks under the open marks
    memo: dict[int, object] = {}
    encoded, end = 0, None
    arg: Any
    for step, (opcode, arg, end) in enumerate(genops(data)):
        if step == MAX_STEPS:
            raise _Refused(f"more than {MAX_STEPS:,} instructions")
        items = [stack.pop() for _ in range(POPPED.get(opcode.name, 0))][::-1]
        if opcode.name in ("TUPLE", "APPENDS", "SETITEMS"):
            items, stack = stack, below.pop()
        match opcode.name:
            case "FRAME" | "STOP":
                pass
            case "PROTO":
                if not 2 <= arg <= 5:
                    raise _Refused(f"pickle protocol {arg}, where 2 to 5 are read")
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8":
                stack.append(arg)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8":
                arg.encode()  # refuses the lone surrogates that pickletools accepts
                stack.append(arg)
            case "BINSTRING" | "SHORT_BINSTRING":  # a byte string of Python 2
                stack.append(arg.encode("latin-1"))
            case "NONE" | "NEWTRUE" | "NEWFALSE" | "EMPTY_TUPLE":
                stack.append(CONSTANTS[opcode.name])
            case "EMPTY_LIST" | "EMPTY_DICT":
                stack.append([] if opcode.name == "EMPTY_LIST" else {})
            case "MARK":
                below.append(stack)
                stack = []
            case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(items))
            case "APPEND" | "APPENDS":
                if type(stack[-1]) is not list:
                    raise _Refused("appends to something that is not a list")
                stack[-1].extend(items)
            case "SETITEM" | "SETITEMS":
                _set_items(stack[-1], items)
            case "BINPUT" | "LONG_BINPUT":
                memo[arg] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[arg])
            case "GLOBAL":
                stack.append(_find(arg))
            case "STACK_GLOBAL":
                stack.append(_find(" ".join(map(_text, items))))
            case "NEWOBJ" | "REDUCE":
                result = _call(*items)
                # The same string may be encoded again and again: a small file would fill the memory.
                encoded += len(result) if isinstance(result, bytes) else 0
                if encoded > len(data):
                    raise _Refused("encodes more bytes than it has")
                stack.append(result)
            case "BUILD":
                state = stack.pop()
                _build(stack[-1], state)
            case _:
                raise _Refused(f"instruction {opcode.name} at byte {end} does not belong in such a file")
    if end != len(data) - 1 or below or len(stack) != 1:
        raise _Refused("damaged: something is left over at its end")
    return stack[0]


def _set_items(target: object, items: list) -> None:
    if type(target) is not dict or len(items) % 2:
        raise _Refused("sets items of something that is not a dictionary")
    # The hash of a deeply nested tuple would overflow the C stack.
    if not all(type(key) in (int, str, bytes) for key in items[::2]):
        raise _Refused("a key of a dictionary is neither a number nor a string")
    target.update(zip(items[::2], items[1::2], strict=True))


def _find(name: str) -> _Record:
    if name not in GLOBALS:
        raise _Refused(f"asks for the global {name.replace(' ', '.')[:200]!r}, which such a file does not need")
    return _Record("global", GLOBALS[name])


def _call(function: Any, args: Any) -> object:
    kind = function.value if _kind(function) == "global" and type(args) is tuple else None
    if kind == "list" and args == ():
        return []
    if kind == "defaultdict" and args == (LIST,):
        return {}
    if kind == "encode" and args[1:] == ("latin1",):
        return args[0].encode("latin-1")
    if kind == "dtype" and _text(args[0]) in DTYPES:
        return _Record("dtype", _text(args[0]))
    if kind == "reconstruct" and args[0] == NDARRAY:
        return _Record("array")
    if kind == "csr_matrix" and args == ():
        return _Record("matrix")
    raise _Refused(f"a call of {kind or 'something that is not a function'} with unexpected arguments")


def _build(target: Any, state: Any) -> None:
    kind = _kind(target)
    if kind == "dtype" and _text(state[1]) in tuple("<>|="):
        target.value = _text(state[1]) + target.value[-2:]
    elif kind == "array":
        target.value = _array(state)
    elif kind == "matrix" and type(state) is dict:
        target.value = state
    else:
        raise _Refused(f"gives a state to something that has none, or an unknown state: {kind}")


def _array(state: Any) -> np.ndarray:
    _, shape, dtype, fortran, data = state
    if not _is_shape(shape, 2**31) or len(shape) > 2:
        raise _Refused("an array's shape is not one or two sensible numbers")
    if _kind(dtype) != "dtype" or type(data) is not bytes:
        raise _Refused("an array has no plain numbers")
    kind = np.dtype(dtype.value)
    if math.prod(shape) * kind.itemsize != len(data):
        raise _Refused(f"an array of shape {shape} and type {dtype.value} has {len(data):,} bytes")
    # A view, not a copy: one string in the file may be the contents of any number of arrays.
    return np.frombuffer(data, kind).reshape(shape, order="F" if fortran is True else "C")

"""Pickles read without running them: what a pickle would import, call or build becomes an inert record.

A pickle is a program. This reader splits it into its instructions with ``pickletools``, which runs none, and carries
out those that stack plain values: numbers, text, lists, tuples, dicts. A global is never imported and a call is never
made; both are kept as records, with their names. So a checkpoint may hold anything beside its tensors (an
``argparse.Namespace``, numpy scalars, paths, dates, a whole module), in protocols 0 to 5 and by Python 2 or 3.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pickletools import genops
from sys import intern
from typing import Any

import numpy as np

MAX_WORD = 1 << 12  # bytes of a word of numpy's
MAX_STEPS = 4_000_000  # instructions; a ResNet-50 with its optimizer takes 20,000
DICTS = {
    "collections.OrderedDict",
    "collections.defaultdict",
    "collections.Counter",
    "builtins.dict",
    "__builtin__.dict",
}
SCALAR = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
WRITTEN = ("_codecs.encode", "__builtin__.bytes", "builtins.bytes")  # how Python 3 writes bytes in protocol 2
KEYS = (str, int, float, bool, bytes, type(None))


class Unreadable(Exception):
    """The reason why a pickle is not read, in one line."""


@dataclass(eq=False, repr=False)
class Record:
    """What stands for a global (``args`` is None), for a call of one, or for an object and what was put into it."""

    name: str
    args: tuple | None = None
    state: Any = None
    items: dict = field(default_factory=dict)


def read_pickle(data: Any) -> Any:
    """Return what one pickle describes, with :class:`Record` for all that is not a plain value.

    ``data`` is bytes, or an open file or memory map, which is left after the pickle's end.
    """
    try:
        return _Machine().run(data)
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        # Only what a damaged stream can cause here: an empty stack, an unknown memo, a number that is none.
        raise Unreadable(f"damaged, or not a pickle: {type(error).__name__}") from error


def read_bytes(value: Any) -> bytes | bytearray:
    """Return the bytes that a value stands for."""
    if isinstance(value, Record) and value.name in WRITTEN and value.args is not None:
        value = next(iter(value.args), b"")
    try:
        value = value.encode("latin-1") if type(value) is str else value  # Python 2 wrote its bytes as text
    except UnicodeEncodeError as error:
        raise Unreadable("text where bytes should be") from error
    if not isinstance(value, bytes | bytearray):
        raise Unreadable("an array or a storage has no plain bytes")
    return value


def read_dtype(record: Any) -> np.dtype | None:
    """Return the type of numbers that a record describes; None if it describes none."""
    if not isinstance(record, Record) or record.name != "numpy.dtype" or not record.args:
        return None
    code, state = record.args[0], record.state
    if type(code) is not str or len(code) > 8:
        return None
    try:
        kind = np.dtype(code)
    except TypeError:
        return None
    if type(state) is tuple and state[1:2] == (">",):
        raise Unreadable("its numbers are big-endian")
    return kind


def plain(value: Any) -> Any:
    """Return the number, the word or the truth value that a record of numpy's describes; anything else as it is."""
    if not isinstance(value, Record) or value.name not in SCALAR or not value.args or len(value.args) != 2:
        return value
    kind, data = read_dtype(value.args[0]), read_bytes(value.args[1])
    if kind is None or kind.kind not in "biufU" or kind.itemsize > MAX_WORD or kind.itemsize != len(data):
        return value
    # A small file may repeat a word, so there is one of each.
    return intern(data.decode("utf-32-le").rstrip("\0")) if kind.kind == "U" else np.frombuffer(data, kind)[0].item()


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list] = []  # the stacks under the open marks
        self.memo: dict[int, Any] = {}

    def run(self, data: Any) -> Any:
        for step, (opcode, arg, _) in enumerate(genops(data)):
            if step == MAX_STEPS:
                raise Unreadable(f"more than {MAX_STEPS:,} instructions")
            name = opcode.name
            if name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name]())
            elif name in _VALUES:
                self.stack.append(arg)
            elif name in _ACTIONS:
                _ACTIONS[name](self, arg)
            elif name not in ("PROTO", "FRAME", "STOP"):
                raise Unreadable(f"instruction {name} does not belong in a checkpoint")
        if self.below or len(self.stack) != 1:
            raise Unreadable("damaged: something is left over at its end")
        return self.stack[0]

    def mark(self, arg: Any) -> None:
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list:
        items, self.stack = self.stack, self.below.pop()
        return items

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def put(self, arg: Any) -> None:
        self.memo[len(self.memo) if arg is None else int(arg)] = self.stack[-1]

    def get(self, arg: Any) -> None:
        self.stack.append(self.memo[int(arg)])

    def global_(self, arg: str) -> None:
        self.stack.append(Record(arg.replace(" ", ".", 1)))

    def stack_global(self, arg: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not str or type(module) is not str:
            raise Unreadable("the name of a global is not text")
        self.stack.append(Record(f"{module}.{name}"))

    def call(self, arg: Any) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        self.stack.append(_call(function, args))

    def call_with_keywords(self, arg: Any) -> None:
        self.stack.pop()
        self.call(arg)

    def instance(self, arg: str) -> None:
        self.stack.append(_call(Record(arg.replace(" ", ".", 1)), tuple(self.since_mark())))

    def object_(self, arg: Any) -> None:
        kind, *args = self.since_mark()
        self.stack.append(_call(kind, tuple(args)))

    def build(self, arg: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Record):
            target.state = state  # that of anything else, such as the metadata of a state dict, is not needed

    def append(self, items: list) -> None:
        if type(target := self.stack[-1]) is list:
            target.extend(items)
        elif not isinstance(target, Record):
            raise Unreadable("appends to something that is not a list")

    def set_items(self, items: list) -> None:
        target = self.stack[-1]
        if isinstance(target, Record):
            target = target.items
        if type(target) is not dict or len(items) % 2:
            raise Unreadable("sets items of something that is not a dictionary")
        target.update(_named(zip(items[::2], items[1::2], strict=True)))

    def dict_(self, arg: Any) -> None:
        items = self.since_mark()
        self.stack.append({})
        self.set_items(items)

    def pop(self, arg: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.stack = self.below.pop()

    def pop_mark(self, arg: Any) -> None:
        self.since_mark()

    def persistent(self, arg: Any) -> None:
        value = self.stack.pop() if arg is None else arg
        value = value if type(value) is tuple else (value,)
        # Before torch 1.6, the class of a module was one, with its source.
        self.stack.append(value[1] if value[:1] == ("module",) else Record("persistent", value))


def _call(function: Any, args: Any) -> Any:
    if not isinstance(function, Record) or type(args) is not tuple:
        raise Unreadable("calls something that is not a function")
    if function.name not in DICTS:
        return Record(function.name, args)
    pairs = args[-1] if args else ()
    if isinstance(pairs, Record):  # the factory of a defaultdict
        return {}
    pairs = pairs.items() if type(pairs) is dict else pairs
    return dict(_named(pairs))


def _named(pairs: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    """Leave out keys of other types than KEYS: hashing a tuple of tuples of tuples could overflow the stack of C."""
    return ((key, value) for each, value in pairs if type(key := plain(each)) in KEYS)


def _tuple(count: int) -> Callable[[_Machine, Any], None]:
    def act(machine: _Machine, arg: Any) -> None:
        items = [machine.stack.pop() for _ in range(count)]
        machine.stack.append(tuple(items[::-1]))

    return act


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_TUPLE": tuple, "EMPTY_LIST": list,
    "EMPTY_DICT": dict, "EMPTY_SET": lambda: Record("builtins.set", ()),
}  # fmt: skip
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "TUPLE": lambda machine, arg: machine.push(tuple(machine.since_mark())),
    "TUPLE1": _tuple(1), "TUPLE2": _tuple(2), "TUPLE3": _tuple(3),
    "LIST": lambda machine, arg: machine.push(machine.since_mark()),
    "DICT": _Machine.dict_,
    "FROZENSET": lambda machine, arg: machine.push(Record("builtins.frozenset", tuple(machine.since_mark()))),
    "APPEND": lambda machine, arg: machine.append([machine.stack.pop()]),
    "APPENDS": lambda machine, arg: machine.append(machine.since_mark()),
    "ADDITEMS": lambda machine, arg: machine.append(machine.since_mark()),
    "SETITEM": lambda machine, arg: machine.set_items([machine.stack.pop() for _ in range(2)][::-1]),
    "SETITEMS": lambda machine, arg: machine.set_items(machine.since_mark()),
    "PUT": _Machine.put, "BINPUT": _Machine.put, "LONG_BINPUT": _Machine.put, "MEMOIZE": _Machine.put,
    "GET": _Machine.get, "BINGET": _Machine.get, "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.global_, "STACK_GLOBAL": _Machine.stack_global, "INST": _Machine.instance,
    "OBJ": _Machine.object_, "REDUCE": _Machine.call, "NEWOBJ": _Machine.call,
    "NEWOBJ_EX": _Machine.call_with_keywords, "BUILD": _Machine.build,
    "POP": _Machine.pop, "POP_MARK": _Machine.pop_mark,
    "DUP": lambda machine, arg: machine.stack.append(machine.stack[-1]),
    "PERSID": _Machine.persistent, "BINPERSID": _Machine.persistent,
}  # fmt: skip

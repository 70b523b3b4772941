"""Triton's interpreter with less work for each operation: the kernels' tests take half the time.

It looks up, makes and checks the same things again for every operation of a kernel. Here they are kept, or done in
NumPy. What a kernel computes stays the same, and so does each check. All names that are replaced are private: where
one is missing, nothing is replaced.
"""

import numpy as np
import torch
import triton
import triton.language as tl
from triton.language import core
from triton.language.semantic import TritonSemantic
from triton.runtime import interpreter

EXACT = {"add": np.add, "sub": np.subtract, "mul": np.multiply}


def interprets() -> bool:
    """Whether the interpreter can run a loop; that of Triton 3.6 cannot with NumPy 2.4."""

    @triton.jit
    def last(out, count):
        for i in range(count):
            tl.store(out, i)

    out = torch.zeros(1, dtype=torch.int32)
    try:
        last[(1,)](out, 3)
    except interpreter.InterpreterError:
        return False
    return out.item() == 2


def use_shortcuts() -> None:
    if hasattr(interpreter, "_patch_lang"):
        patch_once()
    if hasattr(interpreter, "_get_np_dtype"):
        keep_types()
        keep_shapes()
    if hasattr(TritonSemantic, "binary_op_sanitize_overflow_impl"):
        TritonSemantic.binary_op_sanitize_overflow_impl = check_overflow
    if hasattr(TritonSemantic, "broadcast_impl_value"):
        keep_broadcasts()


def patch_once() -> None:
    """Patch Triton's language once for each module with functions that kernels call, not at every call of one.

    The interpreter takes back only what a kernel's launch has patched.
    """
    patched = set()

    def call(self, *args, **kwargs):
        if self.fn.__module__ not in patched:
            patched.add(self.fn.__module__)
            interpreter._patch_lang(self.fn)
        return self.rewrite()(*args, **kwargs)

    interpreter.InterpretedFunction.__call__ = call


def keep_types() -> None:
    find, numpy_types, blocks = interpreter._get_np_dtype, {}, {}

    def get_np_dtype(dtype):
        if dtype.name not in numpy_types:
            numpy_types[dtype.name] = find(dtype)
        return numpy_types[dtype.name]

    def get_block_ty(self, dtype, shape):
        key = dtype.name, *shape
        if key not in blocks:
            blocks[key] = tl.block_type(dtype, shape)
        return blocks[key]

    def with_element_ty(block, dtype):
        key = block.name, dtype.name
        if key not in blocks:
            blocks[key] = tl.block_type(dtype, block.shape)
        return blocks[key]

    interpreter._get_np_dtype, interpreter.InterpreterBuilder.get_block_ty = get_np_dtype, get_block_ty
    tl.block_type.with_element_ty = with_element_ty


def keep_shapes() -> None:
    make, shapes = tl.tensor.__init__, {}

    def init(self, handle, type):
        if type.name not in shapes:
            make(self, handle, type)
            shapes[type.name] = self.shape, self.numel
        self.handle, self.type, self.dtype = handle, type, type.scalar
        self.shape, self.numel = shapes[type.name]

    tl.tensor.__init__ = init


def check_overflow(self, lhs, rhs, operation) -> None:
    """Raise if integers of fewer than 64 bits overflow."""
    dtype = lhs.type.scalar
    if dtype.int_bitwidth < 64 and self.builder.options.sanitize_overflow:
        exact = EXACT[operation.__name__](lhs.handle.data.astype(np.int64), rhs.handle.data.astype(np.int64))
        inside = (dtype.get_int_min_value() <= exact) & (exact <= dtype.get_int_max_value())
        assert inside.all(), f"int{dtype.int_bitwidth} overflow detected for operation {operation.__name__}"


def keep_broadcasts() -> None:
    """Keep what two types are broadcast to, and let NumPy do it in one step."""
    broadcast, found = TritonSemantic.broadcast_impl_value, {}

    def grow(self, value, grown):
        if grown is None:
            return value
        type, shape = grown
        return self.tensor(interpreter.TensorHandle(np.broadcast_to(value.handle.data, shape), value.dtype), type)

    def broadcast_value(self, *values):
        key = tuple(value.type.name for value in values)
        if key not in found:
            results = broadcast(self, *values)
            found[key] = [
                None
                if value.type.name == result.type.name
                else (result.type, [core._unwrap_if_constexpr(s) for s in result.shape])
                for value, result in zip(values, results, strict=True)
            ]
            return results
        return tuple(grow(self, value, grown) for value, grown in zip(values, found[key], strict=True))

    TritonSemantic.broadcast_impl_value = broadcast_value

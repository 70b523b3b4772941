"""Products of a sparse and a dense matrix, for each way in which PyTorch runs a network.

PyTorch multiplies CSR matrices of float32 and float64 only, outside compiled programs and outside ``torch.func``. So
half types are multiplied in float32; a compiled program calls an operator of our own, which does the same; and where a
program is exported or transformed, the product is a gather, a multiplication and a scatter.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def is_traced() -> bool:
    """Return whether a program is being compiled or exported, or a function of ``torch.func`` transformed."""
    return torch.compiler.is_compiling() or is_transformed()


def is_transformed() -> bool:
    """Return whether a transformation of ``torch.func`` is under way: grad, vmap and jvp know no CSR tensor."""
    return torch._C._are_functorch_transforms_active()


def compute_dtype(*dtypes: torch.dtype) -> torch.dtype:
    """Return the type that a product of these types is computed in: the widest of them, at least float32."""
    result = torch.float32
    for dtype in dtypes:
        result = torch.promote_types(result, dtype)
    return result


def indexed_product(rows: Tensor, columns: Tensor, values: Tensor, dense: Tensor, size: int) -> Tensor:
    """Multiply by index operations, which every program and transformation knows; repeated positions are summed.

    Shape: rows, columns and values [nnz], dense [n, k] -> [size, k], in the type of ``dense``
    """
    kind = compute_dtype(values.dtype, dense.dtype)
    messages = dense.to(kind).index_select(0, columns) * values.to(kind)[:, None]
    return torch.zeros(size, dense.shape[1], dtype=kind, device=dense.device).index_add(0, rows, messages).to(dense)


def csr_product(matrix: Tensor, dense: Tensor) -> Tensor:
    """Multiply a CSR tensor [m, n] and a dense one [n, k] to [m, k], in the type of ``dense``; autocast is ignored."""
    if torch.is_autocast_enabled(dense.device.type):
        with torch.autocast(dense.device.type, enabled=False):
            return csr_product(matrix, dense)
    if matrix.dtype == dense.dtype and dense.dtype in (torch.float32, torch.float64):
        return matrix.mm(dense)
    kind = compute_dtype(matrix.dtype, dense.dtype)
    return matrix.to(kind).mm(dense.to(kind)).to(dense.dtype)


@contextmanager
def without_announcement() -> Iterator[None]:
    """Where torch may announce, once per process, that CSR tensors are beta: nothing that a user can change."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        yield


def csr_tensor(crow: Tensor, col: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A CSR tensor of indices that are known to be right."""
    with without_announcement():
        return torch.sparse_csr_tensor(crow, col, values, shape, check_invariants=False)


@torch.library.custom_op("comhe::csr_product", mutates_args=())
def compiled_product(
    crow: Tensor, col: Tensor, values: Tensor, t_crow: Tensor, t_col: Tensor, t_values: Tensor, dense: Tensor
) -> Tensor:
    """Multiply a matrix in CSR form, given with its transpose, as one operation of a compiled program."""
    shape = (crow.numel() - 1, t_crow.numel() - 1)
    return csr_product(csr_tensor(crow, col, values, shape), dense)


@compiled_product.register_fake
def _(crow, col, values, t_crow, t_col, t_values, dense):
    return dense.new_empty(crow.shape[0] - 1, dense.shape[1])


def _save_matrix(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:6])


def _multiply_transpose(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
    crow, col, values, t_crow, t_col, t_values = ctx.saved_tensors
    return (*[None] * 6, compiled_product(t_crow, t_col, t_values, crow, col, values, gradient))


compiled_product.register_autograd(_multiply_transpose, setup_context=_save_matrix)

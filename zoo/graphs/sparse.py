"""A CSR matrix prepared once and multiplied many times, with the dropout and the gradient that graph networks need."""

from __future__ import annotations

from typing import Union, overload

import torch
from torch import Tensor

from comhe.errors import UsageError, check_dropout

from .masks import keep_mask, keep_probability
from .products import (
    compiled_product,
    csr_product,
    csr_tensor,
    indexed_product,
    is_traced,
    is_transformed,
    without_announcement,
)

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
Features = Union["SparseMatrix", Tensor]


class _Pattern:
    """The positions of the stored values, and those of the transpose; shared by all matrices that have them."""

    __slots__ = ("_rows", "_transposed", "col", "crow", "shape")

    def __init__(self, crow: Tensor, col: Tensor, shape: tuple[int, int]):
        # MKL takes int32 as it is; int64 indices would be converted on every single product.
        index_type = torch.int32 if max(col.numel(), *shape) < 2**31 else torch.int64
        self.crow, self.col, self.shape = crow.to(index_type), col.to(index_type), shape
        self._rows: Tensor | None = None
        self._transposed: tuple[_Pattern, Tensor] | None = None

    def row_of_each_value(self) -> Tensor:
        if self._rows is None:
            rows = torch.arange(self.shape[0], device=self.col.device, dtype=self.col.dtype)
            self._rows = rows.repeat_interleave(self.crow.diff(), output_size=self.col.numel())
        return self._rows

    def transposed(self) -> tuple[_Pattern, Tensor]:
        """Return the transposed pattern and the permutation that sorts the values into it; computed once."""
        if self._transposed is None:
            order = torch.argsort(self.col, stable=True)  # rows stay ascending within each column
            # Not bincount, whose result has a size that no compiler knows.
            counts = self.col.new_zeros(self.shape[1] + 1).index_add(0, self.col + 1, torch.ones_like(self.col))
            crow = counts.cumsum(0)
            pattern = _Pattern(crow, self.row_of_each_value()[order], (self.shape[1], self.shape[0]))
            self._transposed = (pattern, order.to(self.crow.dtype))
        return self._transposed


class SparseMatrix:
    r"""Constant sparse matrix :math:`S` in CSR form whose products :math:`S D` are differentiable in :math:`D`.

    The backward product :math:`S^\top G` uses the transposed pattern, sorted once and shared by all matrices that
    :meth:`dropout` derives from this one; a symmetric matrix (detected when it is built) is its own transpose. No
    gradient flows to the values. Indices are int32, which MKL and cuSPARSE take without a conversion per product. The
    products work in every floating dtype, under autocast (which they ignore), ``torch.compile`` and ``torch.func``.
    Build one with :meth:`from_torch`, :meth:`from_coo` or :meth:`from_edge_index`.

    Shape: ``S @ dense``: [rows, columns] @ [columns, k] -> [rows, k], computed in the wider dtype of the
        two, at least float32, and returned in that of ``dense``.
    """

    __slots__ = ("_pattern", "_scaled", "_tensor", "_transpose", "symmetric", "values")

    def __init__(self, pattern: _Pattern, values: Tensor, symmetric: bool = False):
        self._pattern, self.values, self.symmetric = pattern, values, symmetric
        self._tensor: Tensor | None = None
        self._transpose: SparseMatrix | None = None
        self._scaled: tuple[float, Tensor] | None = None

    @classmethod
    def from_coo(
        cls, rows: Tensor, columns: Tensor, values: Tensor | None, shape: tuple[int, int], sum_duplicates: bool = True
    ) -> SparseMatrix:
        """Build one from int64 positions [E], [E] and values [E] (ones if None); repeated positions are summed or kept.

        To keep them apart is for a network that treats every edge by itself, as an attention does.
        """
        if values is None:
            values = torch.ones(rows.shape[0], device=rows.device)
        _check_range(rows, shape[0], "row index")
        _check_range(columns, shape[1], "column index")
        if not sum_duplicates:
            order = torch.argsort(rows * shape[1] + columns, stable=True)
            crow = torch.bincount(rows + 1, minlength=shape[0] + 1).cumsum(0)
            return cls(_Pattern(crow, columns[order], shape), values[order])
        return cls.from_torch(
            torch.sparse_coo_tensor(torch.stack([rows, columns]), values, shape, check_invariants=False)
        )

    @classmethod
    def from_torch(cls, tensor: Tensor) -> SparseMatrix:
        """Build one from a 2-D COO, CSR, CSC or dense tensor; explicit zeros stay stored, as torch keeps them."""
        if tensor.ndim != 2:
            raise UsageError(f"a SparseMatrix is 2-D, got a tensor of shape {tuple(tensor.shape)}")
        if not tensor.is_floating_point():
            tensor = tensor.to(torch.get_default_dtype())
        if tensor.layout == torch.sparse_coo:
            tensor = tensor.coalesce()
        with without_announcement():
            csr = tensor.detach().to_sparse_csr()
        pattern = _Pattern(csr.crow_indices(), csr.col_indices(), (csr.shape[0], csr.shape[1]))
        values = csr.values().clone()  # a compiler does not take a view of a sparse tensor
        return cls(pattern, values, symmetric=_is_symmetric(pattern, values))

    @classmethod
    def from_edge_index(cls, edge_index: Tensor, num_nodes: int, values: Tensor | None = None) -> SparseMatrix:
        """Build the adjacency S[target, source] = value, so that ``S @ h`` sums over incoming edges as PyG does."""
        edge_index = check_edge_index(edge_index, num_nodes)
        return cls.from_coo(edge_index[1], edge_index[0], values, (num_nodes, num_nodes))

    @property
    def shape(self) -> tuple[int, int]:
        return self._pattern.shape

    @property
    def device(self) -> torch.device:
        return self.values.device

    @property
    def dtype(self) -> torch.dtype:
        return self.values.dtype

    @property
    def nnz(self) -> int:
        return self.values.numel()

    @property
    def T(self) -> SparseMatrix:
        """The transpose; the matrix itself if symmetric."""
        if self.symmetric:
            return self
        if self._transpose is None:
            pattern, order = self._pattern.transposed()
            self._transpose = SparseMatrix(pattern, self.values.index_select(0, order))
        return self._transpose

    def indices(self) -> tuple[Tensor, Tensor]:
        """Return the row and the column of each stored value, int32 [nnz] both, rows ascending."""
        return self._pattern.row_of_each_value(), self._pattern.col

    def to_dense(self) -> Tensor:
        return self._csr().to_dense()

    def _csr(self) -> Tensor:
        if self._tensor is None:  # a compiled program never makes it
            p = self._pattern
            self._tensor = csr_tensor(p.crow, p.col, self.values, p.shape)
        return self._tensor

    def __repr__(self) -> str:
        kind = ", symmetric" if self.symmetric else ""
        return f"SparseMatrix({self.shape[0]}x{self.shape[1]}, nnz={self.nnz}, {self.dtype}, {self.device}{kind})"

    def mm(self, dense: Tensor) -> Tensor:
        """Return ``self @ dense``, under the name that ``torch.compile`` finds."""
        if dense.ndim != 2 or dense.shape[0] != self._pattern.shape[1]:
            raise UsageError(f"{self!r} @ dense needs [{self.shape[1]}, k], got {tuple(dense.shape)}")
        if torch.compiler.is_compiling():
            p, t = self._pattern, self.T
            return compiled_product(p.crow, p.col, self.values, t._pattern.crow, t._pattern.col, t.values, dense)
        if is_transformed():
            return indexed_product(*self.indices(), self.values, dense, self.shape[0])
        if dense.requires_grad and torch.is_grad_enabled():
            return _Product.apply(dense, self)
        return csr_product(self._csr(), dense)

    __matmul__ = mm

    def dropout(self, p: float, training: bool = True) -> SparseMatrix:
        """Apply Kipf's sparse dropout: what dense dropout does to the same matrix, since dropped zeros stay zero.

        See :func:`keep_mask` for the random numbers and the precision of p. The result shares the pattern.
        """
        check_dropout(p)
        if not training or p == 0.0:
            return self
        if torch.compiler.is_compiling():
            values = self.values * keep_mask(self.values.shape, p, self.device) / keep_probability(p)
            return SparseMatrix(self._pattern, values)
        if self._scaled is None or self._scaled[0] != p:  # the 1 / (1 - p) is paid once, not per step
            self._scaled = (p, self.values / keep_probability(p))
        values = self._scaled[1] * keep_mask(self.values.shape, p, self.device)
        return SparseMatrix(self._pattern, values)

    def rows(self, index: Tensor) -> SparseMatrix:
        """Select the rows at ``index`` (int64 [n] or bool [rows]), in that order."""
        index = as_index(index, self.shape[0], "row")
        crow = self._pattern.crow.long()
        start, count = crow[index], crow[index + 1] - crow[index]
        new_crow = torch.cat([count.new_zeros(1), count.cumsum(0)])
        shift = (start - new_crow[:-1]).repeat_interleave(count)
        position = torch.arange(len(shift), device=self.device) + shift
        pattern = _Pattern(new_crow, self._pattern.col[position], (len(index), self.shape[1]))
        return SparseMatrix(pattern, self.values[position])

    def columns(self, index: Tensor) -> SparseMatrix:
        """Select the columns at ``index`` (int64 [n] without repetition, or bool [columns]), in that order."""
        index = as_index(index, self.shape[1], "column")
        new_column = torch.full((self.shape[1],), -1, device=self.device)
        new_column[index] = torch.arange(len(index), device=self.device)
        if int((new_column >= 0).sum()) != len(index):
            raise UsageError("column index repeats a column; a column can be selected once")
        columns = new_column[self._pattern.col.long()]
        keep = columns >= 0
        rows = self._pattern.row_of_each_value()[keep].long()
        return SparseMatrix.from_coo(rows, columns[keep], self.values[keep], (self.shape[0], len(index)))

    def used_columns(self) -> Tensor:
        """Return the sorted int64 indices of the columns that store at least one value."""
        return self._pattern.col.unique().long()

    def to(self, target: torch.device | str | torch.dtype) -> SparseMatrix:
        """Return a copy on another device or in another floating dtype, or itself if nothing changes."""
        values = self.values.to(target)
        if values is self.values:
            return self
        pattern = self._pattern
        if values.device != self.device:
            pattern = _Pattern(pattern.crow.to(target), pattern.col.to(target), pattern.shape)
        return SparseMatrix(pattern, values, self.symmetric)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, dense: Tensor, matrix: SparseMatrix) -> Tensor:
        ctx.matrix = matrix
        return csr_product(matrix._csr(), dense)

    @staticmethod
    def jvp(ctx, tangent: Tensor, _: None) -> Tensor:
        return ctx.matrix @ tangent

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.matrix.T @ grad, None  # itself differentiable, so second derivatives work


@overload
def dropout(x: Tensor, p: float, training: bool = True) -> Tensor: ...
@overload
def dropout(x: Features, p: float, training: bool = True) -> Features: ...
def dropout(x: Features, p: float, training: bool = True) -> Features:
    """Apply dropout with the random numbers of :func:`keep_mask`; differentiable in a dense x."""
    if isinstance(x, SparseMatrix):
        return x.dropout(p, training)
    check_dropout(p)
    if not training or p == 0.0:
        return x
    return x * keep_mask(x.shape, p, x.device).to(x.dtype).div_(keep_probability(p))


def check_alpha(alpha: float) -> None:
    if not 0.0 <= alpha <= 1.0:
        raise UsageError(f"alpha must be in [0, 1], got {alpha}")


def check_edge_index(edge_index: Tensor, num_nodes: int, edge_weight: Tensor | None = None) -> Tensor:
    """Return edges as int64, or raise a UsageError; while a program is traced, only types and shapes tell."""
    if edge_index.ndim != 2 or edge_index.shape[0] != 2 or edge_index.dtype not in INTEGERS:
        hint = "; transpose it" if edge_index.ndim == 2 and edge_index.shape[1] == 2 else ""
        found = f"{edge_index.dtype} {tuple(edge_index.shape)}"
        raise UsageError(f"edge_index must be integers [2, E], source and target nodes, got {found}{hint}")
    if edge_weight is not None and (edge_weight.shape != edge_index.shape[1:] or not edge_weight.is_floating_point()):
        shape = f"{edge_weight.dtype} {tuple(edge_weight.shape)}"
        raise UsageError(f"edge_weight must be floating-point [{edge_index.shape[1]}], one for an edge, got {shape}")
    edge_index = edge_index.long()
    _check_range(edge_index, num_nodes, "edge_index entry")
    return edge_index


def _check_range(index: Tensor, size: int, what: str) -> None:
    if not is_traced() and index.numel():
        low, high = (int(v) for v in torch.aminmax(index))
        if low < 0 or high >= size:
            raise UsageError(f"{what} {low if low < 0 else high} is outside [0, {size})")


def as_index(index: Tensor, size: int, what: str) -> Tensor:
    """Check positions, or turn a bool mask of ``size`` into the positions where it is true."""
    if index.dtype == torch.bool and index.shape == (size,):
        return index.nonzero().squeeze(1)
    if index.ndim != 1 or index.dtype not in INTEGERS:
        raise UsageError(f"{what} index must be integers [n] or bool [{size}], got {index.dtype} {tuple(index.shape)}")
    index = index.long()
    _check_range(index, size, f"{what} index")
    return index


def _is_symmetric(pattern: _Pattern, values: Tensor) -> bool:
    if pattern.shape[0] != pattern.shape[1]:
        return False
    other, order = pattern.transposed()
    same = torch.equal(pattern.crow, other.crow) and torch.equal(pattern.col, other.col)
    return same and torch.equal(values, values.index_select(0, order))

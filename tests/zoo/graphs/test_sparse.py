"""SparseMatrix against dense float64."""

import pytest
import torch

from comhe.zoo.graphs import SparseMatrix, gcn_norm
from comhe.zoo.graphs.sparse import dropout

from .conftest import random_sparse


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (6, 6), (1, 4), (4, 1)])
@pytest.mark.parametrize("layout", [torch.strided, torch.sparse_coo, torch.sparse_csr])
def test_product_and_gradient_equal_the_dense_ones(shape, layout):
    dense = random_sparse(*shape)
    source = dense if layout == torch.strided else dense.to_sparse(layout=layout)
    matrix = SparseMatrix.from_torch(source)
    d = torch.randn(shape[1], 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(matrix @ d, dense @ d)
    torch.testing.assert_close(matrix.to_dense(), dense)
    torch.testing.assert_close(matrix.T.to_dense(), dense.T)
    assert torch.autograd.gradcheck(lambda d: matrix @ d, d)
    assert torch.autograd.gradgradcheck(lambda d: (matrix @ d).square(), d)
    # a column-major operand, as weight.t() is
    torch.testing.assert_close(matrix @ d.t().contiguous().t(), dense @ d)


def test_symmetric_is_detected_and_is_its_own_transpose():
    dense = random_sparse(6, 6)
    symmetric = SparseMatrix.from_torch(dense + dense.T)
    assert symmetric.symmetric
    assert symmetric.T is symmetric
    assert not SparseMatrix.from_torch(dense).symmetric
    assert not SparseMatrix.from_torch((dense + dense.T) * torch.arange(1.0, 7.0, dtype=torch.float64)).symmetric
    torch.manual_seed(0)
    dropped = symmetric.dropout(0.5)  # entries fall independently, so it is no longer symmetric
    torch.testing.assert_close(dropped.T.to_dense(), dropped.to_dense().T)


def test_rows_and_columns_select_in_the_order_asked():
    dense = random_sparse(8, 6)
    matrix = SparseMatrix.from_torch(dense)
    rows, columns = torch.tensor([5, 0, 5, 7]), torch.tensor([4, 1, 2])
    torch.testing.assert_close(matrix.rows(rows).to_dense(), dense[rows])
    torch.testing.assert_close(matrix.columns(columns).to_dense(), dense[:, columns])
    mask = torch.arange(8) % 2 == 0
    torch.testing.assert_close(matrix.rows(mask).to_dense(), dense[mask])
    assert matrix.rows(torch.tensor([], dtype=torch.int64)).shape == (0, 6)
    d = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d: matrix.rows(rows) @ d, d)


def test_dropout_obeys_the_seed_keeps_the_pattern_and_rests_in_eval():
    matrix = SparseMatrix.from_torch(random_sparse(20, 30))
    torch.manual_seed(3)
    a = matrix.dropout(0.4)
    b = matrix.dropout(0.4)
    torch.manual_seed(3)
    assert torch.equal(matrix.dropout(0.4).values, a.values)
    assert not torch.equal(a.values, b.values)
    assert a.indices()[1] is matrix.indices()[1]
    assert matrix.dropout(0.4, training=False) is matrix
    assert matrix.dropout(0.0) is matrix
    d = torch.randn(30, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d: a @ d, d)


def test_dense_dropout_scales_values_and_gradients_alike():
    torch.manual_seed(0)
    x = torch.ones(50, 40, requires_grad=True)
    y = dropout(x, 0.5)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    assert set(y.unique().tolist()) == {0.0, 2.0}
    assert dropout(x, 0.5, training=False) is x


def test_to_changes_the_dtype_and_nothing_else():
    matrix = SparseMatrix.from_torch(random_sparse(5, 5))
    assert matrix.to("cpu") is matrix
    single = matrix.to(torch.float32)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.to_dense().double(), matrix.to_dense(), atol=1e-6, rtol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_gives_what_the_cpu_gives():
    dense = random_sparse(30, 20)
    matrix = SparseMatrix.from_torch(dense).to("cuda")
    d = torch.randn(20, 3, dtype=torch.float64, device="cuda", requires_grad=True)
    torch.testing.assert_close((matrix @ d).cpu(), dense @ d.cpu())
    assert torch.autograd.gradcheck(lambda d: matrix @ d, d)
    assert matrix.dropout(0.5).device.type == "cuda"
    torch.testing.assert_close(matrix.rows(torch.tensor([2, 1], device="cuda")).to_dense().cpu(), dense[[2, 1]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m @ torch.ones(4, 2), r"needs \[3, k\], got \(4, 2\)"),
        (lambda m: m @ torch.ones(3), r"got \(3,\)"),
        (lambda m: m.dropout(1.0), r"\[0, 1\), not 1.0"),
        (lambda m: m.dropout(-0.1), r"not -0.1"),
        (lambda m: m.rows(torch.tensor([2])), r"row index 2 is outside \[0, 2\)"),
        (lambda m: m.rows(torch.tensor([-1])), r"row index -1"),
        (lambda m: m.columns(torch.tensor([1, 1])), "repeats a column"),
        (lambda m: m.columns(torch.tensor([0.5])), "float32"),
        (lambda m: SparseMatrix.from_torch(torch.ones(3)), r"2-D, got a tensor of shape \(3,\)"),
        (lambda m: SparseMatrix.from_coo(torch.tensor([0]), torch.tensor([9]), None, (2, 3)), "column index 9"),
        (lambda m: SparseMatrix.from_edge_index(torch.tensor([[0], [5]]), 5), "edge_index entry 5"),
        (lambda m: gcn_norm(torch.tensor([0, 1]), 5), r"\[2, E\]"),
    ],
)
def test_errors_name_the_value(call, message):
    with pytest.raises(ValueError, match=message):
        call(SparseMatrix.from_torch(torch.ones(2, 3)))

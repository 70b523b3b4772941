"""Products in every dtype and under every transformation, against the dense ones in float64."""

import pytest
import torch
from torch.func import grad, jvp, vmap

from comhe.zoo.graphs import SparseMatrix
from comhe.zoo.graphs.products import compiled_product, csr_product, indexed_product

from .conftest import random_sparse

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("values", FLOATS)
@pytest.mark.parametrize("other", FLOATS)
def test_a_product_has_the_type_and_the_precision_of_the_dense_factor(values, other):
    dense = random_sparse(9, 7, dtype=torch.float64)
    matrix, d = SparseMatrix.from_torch(dense.to(values)), torch.randn(7, 3, dtype=torch.float64).to(other)
    exact = matrix.to_dense().double() @ d.double()
    assert (matrix @ d).dtype == other
    precision = max(torch.finfo(other).eps, torch.finfo(torch.float32).eps if torch.float32 in (values, other) else 0)
    torch.testing.assert_close((matrix @ d).double(), exact, atol=8 * precision, rtol=8 * precision)
    indexed = indexed_product(*(i.long() for i in matrix.indices()), matrix.values, d, 9)
    torch.testing.assert_close(indexed, matrix @ d)
    d.requires_grad_()
    (matrix @ d).sum().backward()
    expected = matrix.to_dense().double().sum(0)[:, None].expand(7, 3)
    torch.testing.assert_close(d.grad.double(), expected, atol=8 * precision, rtol=8 * precision)


def test_autocast_leaves_the_product_as_it_is():
    matrix, d = SparseMatrix.from_torch(random_sparse(6, 6).float()), torch.randn(6, 2, requires_grad=True)
    expected = matrix @ d
    with torch.autocast("cpu", torch.bfloat16):
        assert (matrix @ d).equal(expected)
        (matrix @ d).sum().backward()
    assert d.grad.dtype == torch.float32


def test_transformations_of_functions_give_what_the_dense_product_gives():
    dense = random_sparse(6, 5)
    matrix, d = SparseMatrix.from_torch(dense), torch.randn(5, 2, dtype=torch.float64)
    many = torch.randn(3, 5, 2, dtype=torch.float64)
    torch.testing.assert_close(vmap(lambda d: matrix @ d)(many), dense @ many)
    inner = vmap(lambda d: matrix @ d, in_dims=1, out_dims=1)(many.transpose(0, 1))
    torch.testing.assert_close(inner.transpose(0, 1), dense @ many)
    loss = lambda product: lambda d: product(d).square().sum()  # noqa: E731
    torch.testing.assert_close(grad(loss(lambda d: matrix @ d))(d), grad(loss(lambda d: dense @ d))(d))
    torch.testing.assert_close(jvp(lambda d: matrix @ d, (d,), (d,))[1], dense @ d)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(d.clone().requires_grad_(), d)
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(matrix @ dual).tangent, dense @ d)


def test_the_operator_of_compiled_programs_is_sound():
    matrix = SparseMatrix.from_torch(random_sparse(6, 5).float())
    (row, col), t = matrix.indices(), matrix.T
    crow = torch.cat([row.new_zeros(1), row.bincount(minlength=6).cumsum(0).int()])
    t_crow = torch.cat([row.new_zeros(1), t.indices()[0].bincount(minlength=5).cumsum(0).int()])
    d = torch.randn(5, 3, requires_grad=True)
    arguments = (crow, col, matrix.values, t_crow, t.indices()[1], t.values, d)
    torch.testing.assert_close(compiled_product(*arguments), matrix @ d)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(compiled_product, arguments, test_utils=tests)


def test_a_matrix_without_rows_or_values():
    empty = torch.zeros(0, 4).to_sparse_csr()
    assert csr_product(empty, torch.ones(4, 2)).shape == (0, 2)
    assert (SparseMatrix.from_torch(torch.zeros(3, 4)) @ torch.ones(4, 2)).equal(torch.zeros(3, 2))

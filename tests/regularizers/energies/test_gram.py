import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from comhe.regularizers.energies.cosines import cosines
from comhe.regularizers.energies.gram import excess, normalized, pair_cosines
from comhe.regularizers.energies.potential import Potential
from comhe.regularizers.energies.terms import Terms


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (2, 6, 4)])
def test_excess_of_the_gram_matrix_over_the_identity(normal, shape):
    w = normal(*shape)
    n, d = shape[-2:]
    smaller = w if n <= d else w.mT
    torch.testing.assert_close(excess(w), smaller @ smaller.mT - torch.eye(min(n, d)))


@pytest.mark.parametrize("min_norm", [0.0, 2.0])
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (2, 3, 5)])
def test_cosines_from_a_gram_matrix(normal, shape, min_norm):
    w, terms = normal(*shape), Terms(Potential(), min_norm=min_norm)
    expected = cosines(w, min_norm).diagonal_scatter(torch.ones(shape[:-1]).double(), dim1=-2, dim2=-1)
    torch.testing.assert_close(normalized(w @ w.mT, terms), expected)
    assert gradcheck(lambda w: normalized(w @ w.mT, terms), w.clone().requires_grad_())
    assert gradgradcheck(lambda w: normalized(w @ w.mT, terms), w.clone().requires_grad_())


def test_cosines_of_pairs(normal):
    w = 0.005 * torch.nn.functional.normalize(normal(3, 5), dim=-1)
    torch.testing.assert_close(pair_cosines(w, min_norm=0.01), pair_cosines(w) / 4)
    assert pair_cosines(w, diagonal=7.0).diagonal().tolist() == [7.0] * 3

import pytest
import torch

from comhe.regularizers.energies.gram import excess


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (2, 6, 4)])
def test_excess_of_the_gram_matrix_over_the_identity(normal, shape):
    w = normal(*shape)
    n, d = shape[-2:]
    torch.testing.assert_close(excess(w), w @ w.mT - torch.eye(n))
    smaller = w if n <= d else w.mT
    torch.testing.assert_close(excess(w, smaller=True), smaller @ smaller.mT - torch.eye(min(n, d)))

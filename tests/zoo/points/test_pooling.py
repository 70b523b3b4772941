"""The maximum over groups; test_shared_mlp.py compares its gradient with that of torch's operations."""

import torch
from torch.nn import functional as F

from comhe.zoo.points.pooling import first_maxima, max_layer


def test_the_first_of_equal_maxima_wins():
    y = torch.tensor([[[1.0, 5.0], [3.0, 5.0], [3.0, 2.0]]])
    top, first = first_maxima(y)
    assert top.tolist() == [[3, 5]]
    assert first.tolist() == [[1, 0]]


def test_maxima_and_statistics_are_those_of_the_layer():
    torch.manual_seed(0)
    h, weight = torch.randn(24, 5, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    gamma, beta = torch.tensor([1.0, -0.5, 0.0, 2.0], dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    blocks = [slice(0, 12), slice(12, 24)]
    z, mean, variance, *_ = max_layer(lambda block: h[block], blocks, 6, weight, gamma, beta, 1e-5)
    y = h @ weight.t()
    expected = F.batch_norm(y, None, None, gamma, beta, training=True)
    torch.testing.assert_close(z, expected.view(4, 6, 4).amax(1))
    torch.testing.assert_close(mean, y.mean(0))
    torch.testing.assert_close(variance, y.var(0, correction=0))

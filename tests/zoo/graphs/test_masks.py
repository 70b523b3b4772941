"""Masks of dropout against their distribution."""

import pytest
import torch

from comhe.zoo.graphs import SparseMatrix
from comhe.zoo.graphs.masks import keep_mask, keep_probability


@pytest.mark.parametrize("p", [0.5, 0.25, 0.1, 0.6, 0.999])
def test_dropout_drops_with_probability_p_and_keeps_the_expectation(p):
    torch.manual_seed(0)
    n = 400_000
    kept = keep_mask((n,), p).double().mean().item()
    assert abs(kept - (1 - p)) < 5 * (p * (1 - p) / n) ** 0.5
    assert abs(keep_probability(p) - (1 - p)) <= 2**-17
    matrix = SparseMatrix.from_torch(torch.ones(100, 1000))
    values = matrix.dropout(p).values
    assert set(values.unique().tolist()) == {0.0, torch.tensor(1 / keep_probability(p)).item()}
    assert abs(values.mean() - 1) < 6 * (p / (1 - p) / matrix.nnz) ** 0.5


def test_every_word_of_the_random_bits_is_uniform():
    torch.manual_seed(1)  # random_() without bounds would leave every fourth (eighth) word's sign bit zero
    for p in (0.5, 0.3):
        by_lane = keep_mask((40_000, 8), p).double().mean(0)
        torch.testing.assert_close(by_lane, torch.full((8,), 1 - p, dtype=torch.float64), atol=0.015, rtol=0)

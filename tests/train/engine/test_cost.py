"""Counted operations and timed penalties."""

import torch

from comhe.regularizers import create_regularizer
from comhe.train.engine.cost import forward_flops, penalty_seconds


def test_operations_of_a_forward_pass():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Flatten(), torch.nn.Linear(8 * 25, 4))
    assert forward_flops(model, (torch.zeros(2, 3, 5, 5),)) == 2 * 2 * (25 * 8 * 27 + 200 * 4)
    assert model.training

    class Sparse(torch.nn.Module):
        def forward(self, x):
            return x @ torch.ones(6, 5)

    entries = torch.eye(6).to_sparse_csr()
    assert forward_flops(Sparse(), (entries,)) == 2 * 6 * 5  # not 2 * 6 * 6 * 5


def test_a_penalty_is_timed_and_none_costs_nothing():
    model = torch.nn.Linear(4, 3)
    assert penalty_seconds(create_regularizer("mhe", model), list(model.parameters())) > 0
    assert penalty_seconds(create_regularizer("none", model), list(model.parameters())) == 0

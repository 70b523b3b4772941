import torch
from torch import nn

from comhe.regularizers import create_regularizer


def test_costs_and_changes_nothing():
    model = nn.Linear(3, 3)
    value = create_regularizer("none", model)()
    assert value.item() == 0
    (model.weight.sum() + value).backward()
    assert model.weight.grad.equal(torch.ones(3, 3))


def test_accepts_a_model_without_neurons_and_a_weight():
    assert create_regularizer("none", nn.ReLU())().item() == 0
    assert create_regularizer("none", nn.Linear(3, 3), output_weight=2.0)().item() == 0

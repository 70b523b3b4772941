"""Whose parameters a layer's weight is computed from."""

import torch
from torch import nn

from comhe.regularizers import combine, create_regularizer
from comhe.regularizers.integrations.ownership import Ownership


def names(own):
    return [layer.name for layer in own]


def test_only_what_the_weight_is_computed_from_counts():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), nn.Linear(3, 3))
    regularizer, ownership = create_regularizer("mhe", model), Ownership()
    length, direction = (getattr(model[0].parametrizations.weight, f"original{i}") for i in (0, 1))
    assert names(ownership.of(regularizer, [model[0].bias, model[1].bias])) == []
    first, second = (ownership.of(regularizer, [p, model[1].weight]) for p in (length, direction))
    assert names(first) == names(second) == ["0", "1"]
    (one, same), (other, also) = first.values(), second.values()
    assert not one & other
    assert same == also


def test_it_follows_the_model_and_keeps_nothing_of_what_has_gone():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3))
    both = combine(create_regularizer("mhe", model), create_regularizer("so", model[0], output=None))
    ownership = Ownership()
    before = ownership.of(both, [model[0].weight])
    assert names(before) == ["0", ""]
    model[0].weight = nn.Parameter(torch.randn(3, 4))
    after = ownership.of(both, [model[0].weight])
    assert list(after.values()) == list(before.values())  # a new tensor in the same place
    for _ in range(3):
        model[1] = nn.Linear(3, 3)
        both.refresh()
        ownership.of(both, model.parameters())
    assert len(ownership._known) == 3

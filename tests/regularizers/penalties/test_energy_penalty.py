"""The options that all energy regularizers share."""

import pytest
import torch
from torch import nn

from comhe.regularizers import create_regularizer, hyperspherical_energy


def test_sampling_estimates_the_mean():
    model = nn.Sequential(nn.Linear(9, 40), nn.Linear(40, 2)).double()
    full = hyperspherical_energy(model[0].weight).item()
    regularizer = create_regularizer("mhe", model, sample=15, output_weight=0.0)
    values = torch.tensor([regularizer().item() for _ in range(400)])
    assert abs(values.mean() - full) < 4 * values.std() / 20
    assert values.unique().numel() > 390


def test_a_sample_is_a_function_of_seed_and_step():
    model = nn.Sequential(nn.Linear(9, 40), nn.Linear(40, 2))
    first, second, other = (create_regularizer("mhe", model, sample=15, seed=seed) for seed in (3, 3, 4))
    values = [first().item() for _ in range(3)]
    assert [second().item() for _ in range(3)] == values
    assert [other().item() for _ in range(3)] != values


def test_sum_is_the_mean_times_the_pairs():
    model = nn.Linear(9, 5)
    mean, total = (create_regularizer("mhe", model, reduction=reduction)().item() for reduction in ("mean", "sum"))
    assert total == pytest.approx(20 * mean)


@pytest.mark.parametrize(
    "options", [{"sample": 1}, {"reduction": "max"}, {"precision": "fp16"}, {"s": -1}, {"s": float("nan")}]
)
def test_wrong_options(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        create_regularizer("mhe", nn.Linear(3, 3), **options)

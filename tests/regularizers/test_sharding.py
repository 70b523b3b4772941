"""Penalties whose layers are divided among ranks; tests/trust/test_ranks.py has the processes."""

import itertools

import pytest
import torch
from torch import nn

from comhe.regularizers import create_regularizer, list_regularizers
from comhe.regularizers.sharding import balance

OPTIONS = {"ap-comhe": {"dim": 4}, "adv-comhe": {"dim": 4, "steps": 2}, "rp-comhe": {"dim": 4, "count": 3}}
CASES = [(name, OPTIONS.get(name, {})) for name in list_regularizers()]
CASES += [
    ("rp-comhe", {"dim": 4, "count": 3, "span": True}),
    ("ap-comhe", {"dim": 4, "mode": "unrolled"}),
    ("adv-comhe", {"dim": 4, "mode": "alternating"}),
]
COSTS = ([5.0, 3.0, 3.0, 2.0, 2.0, 2.0], [1.0], [], [1.0] * 7, [8.0, 7.0, 6.0, 5.0, 4.0])


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3, groups=2), nn.Flatten(), nn.Linear(32, 10), nn.Linear(10, 5)
    return nn.Sequential(*layers).double()  # an adversary's gradient has few digits left in single precision


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-12 + 1e-9 * expected.abs().max().item())


@pytest.mark.parametrize("costs", COSTS)
@pytest.mark.parametrize("ranks", [1, 2, 3, 9])
def test_no_rank_has_much_more_than_the_best_division_would_give_it(costs, ranks):
    owners = balance(costs, ranks)
    assert owners == balance(costs, ranks)

    def busiest(owners):
        return max(sum(c for c, owner in zip(costs, owners, strict=True) if owner == rank) for rank in range(ranks))

    ways = itertools.product(range(min(ranks, 3)), repeat=len(costs)) if ranks <= 3 else [range(len(costs))]
    best = min(busiest(way) for way in ways)
    assert busiest(owners) <= (4 / 3) * best


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_mean_over_the_ranks_is_the_penalty(name, options):
    ranks, model = 3, network()
    alone = create_regularizer(name, model, **options)
    shards = [create_regularizer(name, model, **options) for _ in range(ranks)]
    for rank, shard in enumerate(shards):
        shard.shard(rank, ranks)
    own = [[layer.name for layer in shard.local_layers] for shard in shards]
    assert sorted(itertools.chain(*own)) == sorted(layer.name for layer in alone.layers)
    assert all(own)
    parameters = list(model.parameters())
    for _ in range(3):  # what is learned goes on from step to step
        values = []
        for regularizer in (alone, *shards):
            values.append(regularizer.value_and_grad(parameters, regularizer.draw()))
            regularizer.step += 1
        (whole, slopes), *parts = values
        torch.testing.assert_close(sum(value for value, _ in parts) / ranks, whole)
        for place, slope in enumerate(slopes):
            found = [slopes[place] for _, slopes in parts if slopes[place] is not None]
            assert (slope is None) == (not found)
            if found:
                close(sum(found) / ranks, slope)
        with torch.no_grad():
            for parameter in parameters:
                parameter.mul_(1 + 0.01 * torch.randn_like(parameter))


def test_wrong_ranks_are_refused():
    regularizer = create_regularizer("mhe", network())
    with pytest.raises(ValueError, match="rank must be 0 to 1, not 2"):
        regularizer.shard(2, 2)
    with pytest.raises(ValueError, match="ranks must be at least 1"):
        balance([1.0], 0)

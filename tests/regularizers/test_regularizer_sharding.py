"""Penalties whose layers are sharded over ranks; tests/trust/test_ranks.py has the processes."""

import itertools

import pytest
import torch
from torch import nn

from comhe.regularizers import create_regularizer, list_regularizers

OPTIONS = {"ap-comhe": {"dim": 4}, "adv-comhe": {"dim": 4, "steps": 2}, "rp-comhe": {"dim": 4, "count": 3}}
CASES = [(name, OPTIONS.get(name, {})) for name in list_regularizers()]
CASES += [
    ("rp-comhe", {"dim": 4, "count": 3, "span": True}),
    ("ap-comhe", {"dim": 4, "mode": "unrolled"}),
    ("adv-comhe", {"dim": 4, "mode": "alternating"}),
]


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3, groups=2), nn.Flatten(), nn.Linear(32, 10), nn.Linear(10, 5)
    return nn.Sequential(*layers).double()  # an adversary's gradient has few digits left in single precision


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-12 + 1e-9 * expected.abs().max().item())


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_mean_over_the_ranks_is_the_penalty(name, options):
    ranks, model = 3, network()
    alone = create_regularizer(name, model, **options)
    shards = [create_regularizer(name, model, **options) for _ in range(ranks)]
    for rank, shard in enumerate(shards):
        shard.shard(rank, ranks)
    local = [[layer.name for layer in shard.local_layers] for shard in shards]
    assert sorted(itertools.chain(*local)) == sorted(layer.name for layer in alone.layers)
    assert all(local)
    parameters = list(model.parameters())
    for _ in range(3):  # what is learned goes on from step to step
        values = []
        for regularizer in (alone, *shards):
            values.append(regularizer.value_and_grad(parameters, regularizer.draw()))
            regularizer.step += 1
        (full, gradients), *shares = values
        torch.testing.assert_close(sum(value for value, _ in shares) / ranks, full)
        for index, gradient in enumerate(gradients):
            found = [gradients[index] for _, gradients in shares if gradients[index] is not None]
            assert (gradient is None) == (not found)
            if found:
                close(sum(found) / ranks, gradient)
        with torch.no_grad():
            for parameter in parameters:
                parameter.mul_(1 + 0.01 * torch.randn_like(parameter))


def test_wrong_ranks_are_refused():
    regularizer = create_regularizer("mhe", network())
    with pytest.raises(ValueError, match="rank must be 0 to 1, not 2"):
        regularizer.shard(2, 2)

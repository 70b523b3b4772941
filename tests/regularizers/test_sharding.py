import itertools

import pytest
from torch import nn

from comhe.errors import UsageError
from comhe.regularizers import create_regularizer
from comhe.regularizers.sharding import balance, check_not_sharded

COSTS = ([5.0, 3.0, 3.0, 2.0, 2.0, 2.0], [1.0], [], [1.0] * 7, [8.0, 7.0, 6.0, 5.0, 4.0])


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


def test_parameters_that_ranks_share_are_refused():
    class Sharded(nn.Parameter):
        def full_tensor(self):
            return self.as_subclass(nn.Parameter)

    model = nn.Linear(3, 3)
    check_not_sharded([model])
    model.weight = Sharded(model.weight.detach())
    with pytest.raises(UsageError, match=r"Linear\.weight is sharded over the ranks already \(FSDP2\)"):
        check_not_sharded([nn.Linear(3, 3), model])
    with pytest.raises(UsageError, match="FSDP2"):
        create_regularizer("mhe", model).shard(0, 2)

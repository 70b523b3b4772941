import itertools

import pytest

from comhe.regularizers.sharding import balance

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

"""PointNet++: sampling and invariance."""

import pytest
import torch

from comhe.zoo.points import PointNet2, Scale, farthest_point_sampling, group

from .conftest import cloud, randomized, small


@pytest.mark.parametrize("scales", [1, 2])
def test_only_the_start_depends_on_the_order_of_the_points(scales):
    """Where no ball holds more points than are taken of it."""
    torch.manual_seed(0)
    levels = [Scale(0.5, 24, (8, 12)), Scale(0.7, 24, (6, 10))][:scales], [Scale(0.9, 12, (8, 12))]
    model, x = randomized(PointNet2(3, 5, (12, 6), levels, 0.0)).eval(), cloud(2, 24)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    shuffled, start = x[:, order], (order == 0).nonzero().flatten().expand(2)
    torch.testing.assert_close(model(shuffled, start), model(x), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(model(cloud(2, 24, seed=1)), model(x), atol=1e-2)


def test_evaluation_samples_from_point_0_and_training_at_random():
    model, x = small("pointnet2_ssg"), cloud()
    assert model.eval()(x).equal(model(x, torch.zeros(3, dtype=torch.int64)))
    model.train()
    torch.manual_seed(1)
    a = model(x)
    assert not a.equal(model(x))
    torch.manual_seed(1)
    assert a.equal(model(x))
    start = torch.tensor([4, 0, 9])
    assert model(x, start).equal(model(x, start))


def test_centers_of_the_second_level_are_farthest_points_of_the_first():
    x, seen = cloud(2, 60), []
    model = small("pointnet2_ssg").eval()
    for level in model.levels:
        level.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[2]))
    model(x)
    first = group(x, farthest_point_sampling(x, 12))
    assert seen[0].equal(first)
    assert seen[1].equal(group(first, farthest_point_sampling(first, 6)))

"""G-CoMHE against an explicit loop over 0/1 masks."""

import pytest
import torch
from torch import nn

from comhe.regularizers import create_regularizer


def by_masks(w, partition, plain, **options):
    """Mean energy of W diag(mask) over the masks of a partition."""
    total = 0
    for group in partition:
        mask = torch.zeros(w.shape[-1], dtype=w.dtype)
        mask[group] = 1
        total = total + plain(w * mask, **options)
    return total / len(partition)


def attach(d, n=6, **options):
    model = nn.Sequential(nn.Linear(d, n), nn.Linear(d, n)).double()
    return model, create_regularizer("group-comhe", model, **options)


@pytest.mark.parametrize("half_space", [True, False])
@pytest.mark.parametrize(("d", "groups"), [(12, 1), (12, 3), (13, 3), (14, 3), (23, 5), (16, 8)])
def test_contiguous_groups_equal_the_masks(plain, d, groups, half_space):
    model, regularizer = attach(d, groups=groups, half_space=half_space, weight=0.7, output_weight=3.0)
    partition = torch.arange(d).tensor_split(groups)
    hidden = by_masks(model[0].weight, partition, plain, half_space=half_space)
    expected = 0.7 * hidden + 3 * plain(model[1].weight)  # the output layer is neither split nor doubled
    grads = torch.autograd.grad(expected, list(model.parameters()), allow_unused=True)
    value = regularizer()
    assert value.item() == pytest.approx(expected.item(), rel=1e-11)
    value.backward()
    torch.testing.assert_close(model[0].weight.grad, grads[0], rtol=1e-9, atol=1e-11)


def test_grouped_convolution(plain):
    model = nn.Sequential(nn.Conv1d(8, 6, 3, groups=2), nn.Linear(4, 2)).double()
    regularizer = create_regularizer("group-comhe", model, groups=5)
    sets = model[0].weight.view(2, 3, 12)
    partition = torch.arange(12).tensor_split(5)
    expected = sum(by_masks(w, partition, plain, half_space=True) for w in sets) / 2
    assert regularizer.report().layers[0].penalty == pytest.approx(expected.item(), rel=1e-11)


@pytest.mark.parametrize("d", [4, 15])
def test_narrow_layers_are_not_split(d):
    model, regularizer = attach(d, groups=8)
    plain = create_regularizer("hs-mhe", model)
    assert regularizer().equal(plain())


@pytest.mark.parametrize(("d", "groups"), [(15, 1), (16, 2), (27, 3), (64, 8), (576, 8)])
def test_groups_have_eight_dimensions_unless_their_number_is_given(d, groups):
    model, regularizer = attach(d)
    assert regularizer().item() == pytest.approx(create_regularizer("group-comhe", model, groups=groups)().item())


def test_random_partition_is_a_partition(plain):
    """Of four dimensions into two pairs there are three partitions: every value is of one, and all occur."""
    model, regularizer = attach(4, groups=2, partition="random")
    pairs = [([0, 1], [2, 3]), ([0, 2], [1, 3]), ([0, 3], [1, 2])]
    values = torch.stack([by_masks(model[0].weight, pair, plain, half_space=True) for pair in pairs])
    seen = set()
    for _ in range(40):
        distance = (regularizer.report().layers[0].penalty - values).abs()
        assert distance.min() < 1e-9 * values.max()
        seen.add(int(distance.argmin()))
        regularizer()
    assert seen == {0, 1, 2}


@pytest.mark.parametrize("redraw", [1, 3])
def test_random_partition_is_a_function_of_seed_and_draw(redraw):
    model, regularizer = attach(24, partition="random", redraw=redraw, seed=5)
    torch.manual_seed(1)
    again = create_regularizer("group-comhe", model, partition="random", redraw=redraw, seed=5)
    other = create_regularizer("group-comhe", model, partition="random", redraw=redraw, seed=6)
    values = [regularizer().item() for _ in range(6 * redraw)]
    assert [again().item() for _ in range(6 * redraw)] == values
    assert [other().item() for _ in range(6 * redraw)] != values
    for i in range(len(values) - 1):
        assert (values[i] == values[i + 1]) == (i // redraw == (i + 1) // redraw)
    continued = create_regularizer("group-comhe", model, partition="random", redraw=redraw, seed=5)
    for _ in range(2):
        continued()
    restored = create_regularizer("group-comhe", model, partition="random", redraw=redraw)
    restored.load_state_dict(continued.state_dict())
    assert restored().item() == values[2]


@pytest.mark.parametrize("options", [{"groups": 0}, {"redraw": 0}, {"partition": "striped"}])
def test_wrong_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        attach(24, **options)

import pytest
import torch

from comhe.regularizers import hyperspherical_energy
from comhe.regularizers.energies.potential import Potential
from comhe.regularizers.energies.terms import Terms, antipodes


@pytest.mark.parametrize("branching", [True, False])
def test_lengths_of_short_and_of_lengthened_neurons(branching):
    squared = torch.tensor([0.0, 1e-60, 0.25, 4.0, torch.inf], dtype=torch.float64)
    lengths = Terms(Potential(), min_norm=1.0).lengths(squared, branching)
    assert lengths.inverse.tolist() == [1, 1, 1, 0.5, 0]
    assert lengths.radial.tolist() == [0, 0, 0, 1, 1]
    assert lengths.lack.tolist() == [1, 1, 0.75, 0, 1]
    lengths = Terms(Potential(), eps=12.0).lengths(squared, branching)
    assert lengths.inverse[3] == 0.25
    assert lengths.radial is None
    assert lengths.lack.tolist() == pytest.approx([1, 1, 12 / 12.25, 0.75, 1])


def test_nothing_is_done_for_short_neurons_where_there_are_none():
    lengths = Terms(Potential(), min_norm=0.01).lengths(torch.ones(3))
    assert lengths.radial is None
    assert lengths.lack is None


def test_antipodes_of_short_neurons():
    lengths = Terms(Potential(), min_norm=2.0).lengths(torch.tensor([1.0, 9.0], dtype=torch.float64))
    value, slope = antipodes(lengths, Potential(2.0), torch.float64, 1)
    assert value.tolist() == pytest.approx([1 / 2.5 - 1 / 4, 0])  # |u| = 1/2: the squared distance is 2 + 2/4
    assert slope.tolist() == pytest.approx([2 / 2.5**2, 0])


@pytest.mark.parametrize("half_space", [False, True])
@pytest.mark.parametrize("shape", [(4, 7), (7, 4)])
def test_energy_of_short_neurons_is_that_of_the_points(normal, half_space, shape):
    """Points w / max(|w|, min_norm) and, in the half space, their negatives."""
    w = normal(*shape)
    w[::2] *= 0.3
    u = w / w.norm(dim=-1, keepdim=True).clamp_min(1.5)
    points = torch.cat((u, -u)) if half_space else u
    i, j = torch.triu_indices(len(points), len(points), 1)
    expected = (1 / (2 - 2 * (points[i] * points[j]).sum(-1))).mean()
    torch.testing.assert_close(hyperspherical_energy(w, 2, half_space, min_norm=1.5), expected)


@pytest.mark.parametrize("half_space", [False, True])
def test_neurons_that_are_long_enough_do_not_change(normal, half_space):
    w = normal(6, 9, dtype=torch.float32).requires_grad_()
    one, other = (hyperspherical_energy(w, 2, half_space, min_norm=least) for least in (0.0, 0.01))
    assert one.equal(other)
    assert torch.autograd.grad(one, w)[0].equal(torch.autograd.grad(other, w)[0])


@pytest.mark.parametrize("half_space", [False, True])
@pytest.mark.parametrize("length", [1e-30, 1e-12, 1e-6, 1e-3])
def test_the_gradient_of_short_neurons_is_bounded(normal, half_space, length):
    """By the slopes of orthogonal neurons, the lengths in units of the least one, and one over that."""
    w = (length * normal(6, 9)).float().requires_grad_()
    (gradient,) = torch.autograd.grad(hyperspherical_energy(w, 2, half_space, min_norm=0.01, reduction="sum"), w)
    assert gradient.norm(dim=-1).max() < 2 * 5 * 100 * (2.0 if half_space else 0.6) * w.detach().norm() / 0.01 + 1e-30

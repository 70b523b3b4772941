import pytest
import torch

from comhe.regularizers.energies.near import NearPairs, any_near, near_pairs
from comhe.regularizers.energies.potential import Potential
from comhe.regularizers.energies.sums import pair_sums
from comhe.regularizers.energies.terms import Terms


def test_which_pairs_are_near():
    c = torch.tensor([[0.0, 0.995, -0.995], [0.5, 0.0, -0.2]])
    assert near_pairs(c, Potential()).tolist() == [[False, True, False], [False] * 3]
    assert near_pairs(c, Potential(half_space=True)).tolist() == [[False, True, True], [False] * 3]
    assert near_pairs(c, Potential(geodesic=True)).tolist() == [[False, True, True], [False] * 3]
    assert near_pairs(0.9 * c, Potential(half_space=True)) is None


def test_neurons_with_near_neighbors(normal):
    w = normal(2, 6, 30)
    assert not any_near(w, Potential())
    w[1, 4] = -2 * w[1, 2] + 0.01 * w[1, 3]
    assert not any_near(w, Potential())
    assert any_near(w, Potential(half_space=True))


@pytest.mark.parametrize("half_space", [False, True])
@pytest.mark.parametrize("eps", [0.0, 1e-3])
def test_listed_pairs_are_pairs(normal, half_space, eps):
    """All pairs of narrow cones around one direction and its opposite, against the sums over all pairs."""
    w = normal(1, 1, 5) + 0.3 * normal(2, 7, 5, seed=1)
    if half_space:
        w[:, ::2] *= -1
    terms = Terms(Potential(2.0, False, half_space), eps=eps)
    near = NearPairs(w, terms)
    near.add(torch.ones(2, 7, 7, dtype=torch.bool).triu(1))
    expected = pair_sums(w, terms, True, tall=False)
    extra = pair_sums(w[:, :1].expand(2, 7, 5) * 0, terms, False, tall=False)  # antipodes are no pairs
    assert extra.energy.isfinite().all()
    if not (eps and half_space):
        torch.testing.assert_close(near.energy(), expected.energy)
        torch.testing.assert_close(near.gradient(), expected.product(w))

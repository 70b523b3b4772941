import importlib

import pytest
import torch

from comhe.regularizers.energies.potential import Potential
from comhe.regularizers.energies.terms import Terms

sums = importlib.import_module("comhe.regularizers.energies.sums")


@pytest.mark.parametrize("options", [{}, {"eps": 0.1}, {"min_norm": 2.0}])
@pytest.mark.parametrize("half_space", [False, True])
def test_all_ways_agree(monkeypatch, normal, half_space, options):
    """In blocks or not, with near pairs listed or all of it in float64."""
    assert not sums.pair_sums(normal(1, 4, 40), Terms(Potential()), True, tall=False).near
    w, terms = normal(2, 9, 12), Terms(Potential(2.0, False, half_space), **options)
    w[0, 3] = 2 * w[0, 5] + 0.01 * w[0, 6]
    expected = sums.pair_sums(w, terms, True, tall=False)
    monkeypatch.setattr(sums, "BLOCK", 30)
    blocks = sums.pair_sums(w, terms, True, tall=True)
    monkeypatch.setattr(sums, "BRANCHING", ())
    for found in (blocks, sums.pair_sums(w, terms, True, tall=False), sums.pair_sums(w, terms, False, tall=True)):
        torch.testing.assert_close(found.energy, expected.energy)
        if found.gradient is not None:
            torch.testing.assert_close(found.product(w), expected.product(w), rtol=1e-6, atol=1e-8)
    assert expected.near
    assert blocks.near

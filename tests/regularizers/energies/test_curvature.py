import pytest
import torch

import comhe.regularizers.energies.curvature as module
from comhe.regularizers.energies import sums
from comhe.regularizers.energies.curvature import curvature
from comhe.regularizers.energies.energy import neuron_sums
from comhe.regularizers.energies.potential import Potential
from comhe.regularizers.energies.terms import Terms


@pytest.mark.parametrize("options", [{}, {"eps": 0.1}, {"min_norm": 2.0}])
@pytest.mark.parametrize("potential", [Potential(), Potential(1.0, False, True), Potential(0.5, True, True)])
def test_it_is_the_change_of_the_gradient(monkeypatch, normal, potential, options):
    w, v, terms = normal(2, 5, 6), normal(2, 5, 6, seed=1), Terms(potential, **options)
    w[1, 2] = w[1, 0] + 0.1 * w[1, 3]  # near
    step = 1e-6
    ahead, behind = (neuron_sums(w + sign * step * v, terms, True).product(w + sign * step * v) for sign in (1, -1))
    expected = (ahead - behind) / (2 * step)
    torch.testing.assert_close(curvature(w, v, terms), expected, rtol=1e-5, atol=1e-4)
    monkeypatch.setattr(module, "block_size", lambda w: 20)
    torch.testing.assert_close(curvature(w, v, terms), expected, rtol=1e-5, atol=1e-4)
    monkeypatch.setattr(sums, "BRANCHING", ())
    torch.testing.assert_close(curvature(w, v, terms), expected, rtol=1e-5, atol=1e-4)

import pytest
from torch import nn

from comhe.regularizers import create_regularizer
from comhe.regularizers.energies.reference import reference_energy


@pytest.mark.parametrize("geodesic", [False, True])
def test_hidden_layers_are_in_the_half_space(geodesic):
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3)).double()
    hidden = reference_energy(model[0].weight.tolist(), half_space=True, geodesic=geodesic)
    output = reference_energy(model[1].weight.tolist(), geodesic=geodesic)
    value = create_regularizer("hs-mhe", model, geodesic=geodesic)()
    assert value.item() == pytest.approx(hidden + 10 * output, rel=1e-10)

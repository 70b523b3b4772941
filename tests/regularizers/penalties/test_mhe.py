import pytest
from torch import nn

from comhe.regularizers import create_regularizer
from comhe.regularizers.energies.reference import reference_energy


@pytest.mark.parametrize("s", [0, 1, 2])
def test_all_layers_are_in_the_full_space(s):
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3)).double()
    hidden, output = (reference_energy(layer.weight.tolist(), s) for layer in model)
    value = create_regularizer("mhe", model, s=s, weight=0.5, output_weight=3.0)()
    assert value.item() == pytest.approx(0.5 * hidden + 3 * output, rel=1e-11)

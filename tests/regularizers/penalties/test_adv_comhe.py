import pytest

from comhe.regularizers import create_regularizer, hyperspherical_energy, regularizer_options


@pytest.mark.parametrize("mode", ["alternating", "unrolled", "both"])
def test_adversary_raises_the_full_space_energy(projected, mode):
    model = projected()
    regularizer = create_regularizer("adv-comhe", model, dim=10, mode=mode, rate=1.0, steps=3)
    energies = []
    for _ in range(10):
        projection = regularizer.state_of(regularizer.layers[0])
        energies.append(hyperspherical_energy(model[0].weight @ projection.mT).item())
        regularizer()
    assert energies[-1] > 1.1 * energies[0]


def test_takes_ten_steps_unless_told_otherwise():
    assert regularizer_options("adv-comhe")["steps"] == 10
    assert regularizer_options("ap-comhe")["steps"] == 1

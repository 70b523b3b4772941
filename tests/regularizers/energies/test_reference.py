import math

import pytest

from comhe.regularizers.energies.reference import reference_energy

SQUARE = [[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0], [0.0, -4.0]]


def test_a_square_by_hand():
    """Each point has two neighbors at squared distance 2 and one opposite at 4."""
    assert reference_energy(SQUARE) == pytest.approx((2 / 2 + 1 / 4) / 3)
    assert reference_energy(SQUARE, mean=False) == pytest.approx(4 * (2 / 2 + 1 / 4))
    assert reference_energy(SQUARE, s=1) == pytest.approx((2 / math.sqrt(2) + 1 / 2) / 3)
    assert reference_energy(SQUARE, s=0) == pytest.approx(-(2 * math.log(2) + math.log(4)) / 3)
    assert reference_energy(SQUARE, s=1, geodesic=True) == pytest.approx((2 / 0.5001 + 1 / 1.0001) / 3)


def test_the_half_space_adds_the_negatives():
    assert reference_energy(SQUARE[:2], half_space=True) == pytest.approx(reference_energy(SQUARE))

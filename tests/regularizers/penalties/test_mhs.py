import itertools
import math

from comhe.regularizers import mhs


def test_formula(check_function, formulas):
    def formula(rows):
        return -min(math.dist(p, q) ** 2 for p, q in itertools.combinations(formulas.unit(rows), 2))

    check_function(mhs, formula)


def test_directions(check_directions):
    check_directions(mhs)

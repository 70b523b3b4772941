import math

from comhe.regularizers import orthoreg


def test_formula(check_function, formulas):
    def formula(rows):
        return sum(math.log1p(math.exp(10 * (c - 1))) for row in formulas.cosines_of_others(rows) for c in row)

    check_function(orthoreg, formula)


def test_directions(check_directions):
    check_directions(orthoreg)

import itertools
import math

from comhe.regularizers import uniformity


def test_formula(check_function, formulas):
    def formula(rows):
        pairs = [math.exp(-2 * math.dist(p, q) ** 2) for p, q in itertools.combinations(formulas.unit(rows), 2)]
        return math.log(sum(pairs) / len(pairs))

    check_function(uniformity, formula)


def test_directions(check_directions):
    check_directions(uniformity)

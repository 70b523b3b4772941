import pytest

from comhe.errors import UsageError
from comhe.regularizers import MHE, Penalty
from comhe.regularizers.weights import check_number, check_weights


def test_defaults():
    def schedule(step):
        return 0.5 * step

    assert check_weights(MHE(), None, "default") == (1.0, 10.0)
    assert check_weights(Penalty(), None, "default") == (1.0, 1.0)
    assert check_weights(MHE(), 2, None) == (2.0, 2.0)
    assert check_weights(MHE(), schedule, "default") == (schedule, 10.0)
    assert check_weights(MHE(), schedule, None) == (schedule, schedule)
    assert check_weights(MHE(), None, 0.0) == (1.0, 0.0)


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), True, "1"])
def test_wrong_numbers(weight):
    with pytest.raises(UsageError, match="x must be a finite number >= 0 or a function of the step"):
        check_number(weight, "x")

import pytest

from comhe.errors import UsageError
from comhe.regularizers.weights import check_number, check_weights


def test_defaults():
    def schedule(step):
        return 0.5 * step

    assert check_weights((1.0, 10.0), None, "default") == (1.0, 10.0)
    assert check_weights((0.01, None), None, "default") == (0.01, 0.01)
    assert check_weights((1.0, 10.0), 2, None) == (2.0, 2.0)
    assert check_weights((1.0, 10.0), schedule, "default") == (schedule, 10.0)
    assert check_weights((1.0, 10.0), schedule, None) == (schedule, schedule)
    assert check_weights((1.0, 10.0), None, 0.0) == (1.0, 0.0)


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), True, "1"])
def test_wrong_numbers(weight):
    with pytest.raises(UsageError, match="x must be a finite number >= 0 or a function of the step"):
        check_number(weight, "x")

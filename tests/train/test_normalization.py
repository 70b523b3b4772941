import pytest

from comhe.errors import UsageError
from comhe.train.normalization import NORMALIZATIONS, parse_normalization


def test_a_normalization_is_a_name_or_numbers():
    assert parse_normalization("set") is None
    for name, (mean, std) in NORMALIZATIONS.items():
        assert parse_normalization(name) == (mean, std)
        assert len(mean) == len(std) == 3
    assert parse_normalization("0.5,0.4,0.3/1,2,3") == ((0.5, 0.4, 0.3), (1.0, 2.0, 3.0))


@pytest.mark.parametrize("text", ["", "cifar", "0.5", "0.5/0", "0.5/nan", "0.5,0.5/1", "a/b", "1/2/3"])
def test_anything_else_is_refused(text):
    with pytest.raises(UsageError, match=r"normalization must be 'set' or .*, not "):
        parse_normalization(text)

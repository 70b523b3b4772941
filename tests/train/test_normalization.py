"""Normalizations by name and by numbers."""

import pytest

from comhe.errors import UsageError
from comhe.train.normalization import NORMALIZATIONS, parse_normalization


def test_names_and_numbers():
    assert parse_normalization("set") is None
    for name, (mean, std) in NORMALIZATIONS.items():
        assert parse_normalization(name) == (mean, std)
        assert len(mean) == len(std) == 3
    assert parse_normalization("0.5,0.4,0.3/0.2,0.2,0.1") == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))


@pytest.mark.parametrize("text", ["", "imagnet", "0.5", "0.5/0", "0.5/-1", "0.5/nan", "0.5,0.5/0.2", "/", "a/b"])
def test_mistakes(text):
    with pytest.raises(UsageError, match="normalization must be 'set' or 'centered' or"):
        parse_normalization(text)

import pytest

from comhe.regularizers.globs import matches, matches_any


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("*", {"trunk.0.conv", "trunk.1", "trunks"}),
        ("trunk", {"trunk.0.conv", "trunk.1"}),
        ("trunk.0", {"trunk.0.conv"}),
        ("trunk.?", {"trunk.1"}),  # a glob is for names of layers alone
        ("trunk*", {"trunk.0.conv", "trunk.1", "trunks"}),
        ("runk", set()),
        ("Trunk", set()),
        ("trunk.", set()),
    ],
)
def test_a_glob_is_for_layers_and_a_name_also_for_a_module(glob, found):
    names = ["trunk.0.conv", "trunk.1", "trunks"]
    assert {name for name in names if matches(glob, name)} == found
    assert {name for name in names if matches_any(["nothing", glob], name)} == found
    assert not any(matches_any([], name) for name in names)

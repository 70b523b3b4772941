"""What lists and pages show of a docstring."""

import pytest

from comhe.regularizers import list_regularizers, regularizer_options
from comhe.train.cli.main import main
from comhe.train.cli.show import _about_options
from comhe.train.docstrings import first_sentence


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("One. Two.", "One"),
        ("A ``b`` of :math:`x`", "A b of x"),
        ("", ""),
        ("First\nline.\n\nMore", "First line"),
        ("Return x, e.g. one. Two.", "x, e.g. one"),
        (None, ""),
    ],
)
def test_a_sentence_is_the_first_without_markup(text, first):
    assert first_sentence(text) == first


@pytest.mark.parametrize("name", list_regularizers())
def test_every_option_of_a_regularizer_is_explained(name, capsys):
    assert main(["show", "regularizer", name]) == 0
    table = capsys.readouterr().out.partition("what it is")[2]
    options = regularizer_options(name)
    about = _about_options(name)
    for option in options:
        assert len(about[option]) > 9, option
        assert not about[option].startswith("see "), option
        assert option in table

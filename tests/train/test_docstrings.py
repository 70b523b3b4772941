"""What lists and pages show of a docstring."""

import pytest

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

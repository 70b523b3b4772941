"""Tables in text files: read right however they are written, or one clear line."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comhe.datasets import DataError
from comhe.inputs.tables import parse_table


def text_of(table, digits=6, separator=",", end="\n") -> bytes:
    return (end.join(separator.join(f"{v:.{digits}f}" for v in row) for row in table) + end).encode()


@given(
    table=st.integers(1, 6).flatmap(
        lambda width: st.lists(
            st.lists(st.floats(-9.9999, 9.9999), min_size=width, max_size=width), min_size=1, max_size=5
        )
    ),
    digits=st.integers(0, 9),
    separator=st.sampled_from([",", " ", ", ", "\t"]),
    end=st.sampled_from(["\n", "\r\n", " \n"]),
)
@settings(max_examples=200, deadline=None)
def test_any_way_of_writing_gives_what_float_gives(table, digits, separator, end):
    data = text_of(table, digits, separator, end)
    expected = [[float(f"{v:.{digits}f}") for v in row] for row in table]
    assert parse_table(data, Path("file"), (len(table[0]),)).tolist() == expected


def test_comments_empty_lines_and_exponents():
    data = b"# x y z\n1 2 3\n\n4e0, 5, -6E-1 # the last\n\n"
    assert parse_table(data, Path("file"), (3,)).tolist() == [[1, 2, 3], [4, 5, -0.6]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "contains no numbers"),
        (b"\n# 1 2 3\n", "contains no numbers"),
        (b"1 2 3\n4 5 x6\n", "not a table of numbers .*'x6'.* at row 1"),
        (b"# a\n\n1 2 3\n4 5\n", "not a table of numbers .*columns changed from 3 to 2"),
        (b"1 2\n3 4\n", "has 2 columns of numbers"),
        (b"1 2 3\n4 5 \xff\x00\n", "not a table of numbers"),
        (b"1,,3\n1,2,3\n", "not a table of numbers .*columns changed from 2 to 3"),
        (b"0x1 2 3\n", "not a table of numbers .*'0x1'"),
    ],
)
def test_faults_are_one_line(data, message):
    with pytest.raises(DataError, match=f"^file: {message}") as caught:
        parse_table(data, Path("file"), (3,))
    assert "\n" not in str(caught.value)

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
        (b"1,,3\n1,2,3\n", "not a table of numbers .*could not convert string '' .* column 2"),
        (b"0x1 2 3\n", "not a table of numbers .*'0x1'"),
    ],
)
def test_faults_are_one_line(data, message):
    with pytest.raises(DataError, match=f"^file: {message}") as caught:
        parse_table(data, Path("file"), (3,))
    assert "\n" not in str(caught.value)


POINTS = [[0.5, 1.25, -2.0], [3.0, 0.75, 1.5], [-1.0, 2.0, 0.25], [0.0, 1.0, 2.5]]


def rows(separator=",", before="", after="", comma=False) -> str:
    numbers = (separator.join(map(str, point)) for point in POINTS)
    return "".join(
        f"{before.format(i)}{line.replace('.', ',') if comma else line}{after}\n" for i, line in enumerate(numbers)
    )


@pytest.mark.parametrize(
    "text",
    [
        ",x,y,z\n" + rows(before="{},"),  # pandas
        ",0,1,2\n" + rows(before="{},"),
        "0,1,2\n" + rows(),
        "idx,px,py,pz\n" + rows(before="{},"),
        '"Points:0","Points:1","Points:2"\n' + rows(),  # ParaView
        '"Normals:0","Normals:1","Normals:2","Points:0","Points:1","Points:2"\n' + rows(before="0,0,1,"),
        "//X Y Z R G B\n4\n" + rows(" ", after=" 1 2 3"),  # CloudCompare
        "//X,Y,Z,R,G,B\n" + rows(after=",1,2,3"),
        '"x" "y" "z"\n' + rows(" ", before='"{}" '),  # R
        "# id x y z\n" + rows(" ", before="{} "),
        "id;x;y;z\n" + rows(";", before="{};"),
        "id;x;y;z\n" + rows(";", before="{};", comma=True),
        "\tx\ty\tz\n" + rows("\t", before="{}\t"),
        rows("\t", comma=True),
        rows(" ", comma=True),
        "nx,ny,nz,x,y,z\r\n" + rows(before="0,0,1,").replace("\n", "\r\n"),
        "class,x,y,z\n" + rows(before="chair,"),
        rows(after=",chair"),
        rows(before="chair "),
        "name,x,y,z\n" + rows(before="chair {},"),
        '"time (s)","x (m)","y (m)","z (m)"\n' + rows(before="{},"),
        rows(", ", before="v "),
        "id,name,x,y,z\n" + rows(before="{0},chair {0}, "),
        "name,x,y,z\n" + rows(before='"bed 2, 3",'),
        "x,y,z\n" + rows('","', before='"', after='"'),
        "x,y,z\n" + rows('";"', before='"', after='"', comma=True).replace(";", ","),  # Excel where commas are decimal
        "4\nmade by hand\n" + rows(" ", before="C "),  # chemistry
        "# x y and z are in meters\n" + rows(" "),
        rows(after=","),
        "4\n" + rows(" "),
        "4 3\n" + rows(" "),  # rows and columns
        "4\n3\n" + rows(" "),
    ],
)
def test_points_of_many_programs(text):
    assert parse_table(text.encode(), Path("file"), (3,)).tolist() == POINTS


def test_each_scan_of_a_file_may_have_its_count():
    text = f"4\n{rows(' ')}4\n{rows(' ')}"
    assert parse_table(text.encode(), Path("file"), (3,)).tolist() == 2 * POINTS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y,z\n" + rows(before="0.5,"), "its header names 3 columns, but its rows have 4"),
        ("x,y,z\n" + rows(",", comma=True), "its header names 3 columns, but its rows have 6"),
        (
            "r g b x y z scalar field\n" + rows(" ", before="1 2 3 ", after=" 7"),
            "its header names 8 columns, but its rows",
        ),
        ("a,b,c,d\n" + rows(after=",1"), "its columns are 'a', 'b', 'c', 'd'; name three of them x, y and z"),
        ("5\n" + rows(" "), "truncated: 4 rows, but its first line says 5"),
        ("3\n" + rows(" "), "too long: 4 rows, but its first line says 3"),
        ("2\n2\n0 0 0\n1 0 0\n" + rows(" "), "begins with 2 2, which is not a number of rows: a scanner's grid"),
        ("x,y,z\n1,2,\n" + rows(), "not a table of numbers .*could not convert string ''"),
    ],
)
def test_columns_that_cannot_be_told_are_one_line(text, message):
    with pytest.raises(DataError, match=f"^file: {message}"):
        parse_table(text.encode(), Path("file"), (3,))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"1,000.5","-2,000,000.25","3.5"', [1000.5, -2000000.25, 3.5]),
        ('"1,000.5","2,250","3.5"', [1000.5, 2250, 3.5]),
        ('"1,5","2,250","3"', [1.5, 2.25, 3]),
        ('"0,250","2,5","3"', [0.25, 2.5, 3]),
        ('"1.5,2.5,3.5"', [1.5, 2.5, 3.5]),
        ('"1.5 2.5 3.5"', [1.5, 2.5, 3.5]),
    ],
)
def test_quoted_numbers(text, expected):
    assert parse_table(text.encode(), Path("file"), (3,)).tolist() == [expected]


def test_a_quoted_number_that_may_be_two_is_refused():
    with pytest.raises(DataError, match=r"file: '1,345' may be 1345 or 1\.345; write points$"):
        parse_table(b'x,y,z\n999,567,89\n"1,345",678,90\n', Path("file"), (3,))

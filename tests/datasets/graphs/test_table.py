"""One CSV file: headers, separators, columns and what is left unused."""

import pytest

from comhe.datasets.graphs.table import ID, Table
from comhe.errors import DataError


def test_a_header_is_recognized_by_its_words(tmp_path):
    for text, names in (
        ("a,b\n1,2\n", ["a", "b"]),
        ("source,b\nx,y\n", ["source", "b"]),
        ("a,b\nTrue,false\n", ["a", "b"]),
        ("True,false\nTrue,False\n", []),
        ("a,b\nb,c\n", []),
        ("1,2\n", []),
    ):
        (tmp_path / "t.csv").write_text(text)
        assert Table(tmp_path / "t.csv").names == names


def test_cells_of_any_separator_and_their_columns(tmp_path):
    for mark in ",;\t":
        (tmp_path / "t.csv").write_text(
            f"id{mark}source{mark}dst{mark}weight\n7{mark} a {mark}b{mark}0.5\n".replace(
                "0.5", "0,5" if mark != "," else "0.5"
            )
        )
        table = Table(tmp_path / "t.csv")
        assert table.ends() == [1, 2, 3]
        assert table.words(1, 2) == [["a", "b"]]
        assert table.unused() == ["id", "weight"]
        assert table.numbers([3]).tolist() == [[0.5]]
        assert table.peek(0) == ["7"]
        assert table.unused() == ["id"]


def test_ends_of_edges_without_names(tmp_path):
    for text, ends in (
        ("a,b\n", [0, 1, None]),
        ("a,b,1\n", [0, 1, 2]),
        (",u,v\n0,a,b\n", [1, 2, None]),
        ("a,b,c,d\n", [None] * 3),
    ):
        (tmp_path / "t.csv").write_text(text)
        assert Table(tmp_path / "t.csv").ends() == ends


def test_faults_name_the_row(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(DataError, match=r"t\.csv: row 3 has 1 cells, the first has 2"):
        Table(tmp_path / "t.csv").numbers([0])


@pytest.mark.parametrize("cell", ["", "NA", "red; blue", "1,100", "2020-01-01"])
@pytest.mark.parametrize(
    ("header", "where"), [("id,height\n", "row 4 has {} in column 'height'"), ("", "row 3 has {} in column 2")]
)
def test_a_cell_that_is_no_number_is_told_with_its_place(tmp_path, cell, header, where):
    (tmp_path / "t.csv").write_text(f'{header}7,1.5\n8,TRUE\n9,"{cell}"\n')
    hint = "; give numbers, such as 0, for what is missing" if cell in ("", "NA") else ""
    with pytest.raises(DataError) as error:
        Table(tmp_path / "t.csv").numbers([0, 1])
    assert str(error.value).endswith(f"t.csv: not a table of numbers: {where.format(repr(cell))}{hint}")


def test_blank_lines_above_are_passed_over(tmp_path):
    for blank in ("", "\n", "\r\n\n"):
        (tmp_path / "t.csv").write_bytes(f"{blank}a;b\n1;2,5\n\n3;4\n".encode())
        table = Table(tmp_path / "t.csv")
        assert table.names == ["a", "b"]
        assert table.numbers([0, 1]).tolist() == [[1, 2.5], [3, 4]]


def test_a_delimiter_at_the_end_of_all_rows_makes_no_column(tmp_path):
    for end in ("\n", "\r\n"):
        (tmp_path / "t.csv").write_bytes(f"a,b,{end}1,2,{end}3,4,{end}".encode())
        table = Table(tmp_path / "t.csv")
        assert (table.names, table.column(ID)) == (["a", "b"], None)
        assert table.numbers([0, 1]).tolist() == [[1, 2], [3, 4]]
    (tmp_path / "t.csv").write_text("a,b,\n1,2,\n3,4,5\n")
    assert Table(tmp_path / "t.csv").width == 3


def test_only_the_first_columns_without_a_name_number_the_rows(tmp_path):
    for header, names in (
        (",a", ["", "a"]),
        (",,a", ["", "", "a"]),
        (",unnamed: 0,a", ["", "unnamed: 0", "a"]),
        ("a,,b,", ["a", "unnamed: 1", "b", "unnamed: 3"]),
    ):
        (tmp_path / "t.csv").write_text(f"{header}\n{','.join('7' * len(names))}\n")
        assert Table(tmp_path / "t.csv").names == names


@pytest.mark.parametrize(
    "text",
    [
        "1;0,5\n2;-1\n",
        "1;0,5\n2;1,5\n",
        "1;0,5\n",
        "1\t0,5\n2\t1,5\n",
        'a;"height, cm"\n1;0,5\n2;1,5\n',
        "a\theight, cm\n1\t0.5\n2\t1.5\n",
        "sep=;\na;b\n1;0,5\n",
        "sep=,\r\na,b\r\n1,0.5\r\n",
        "a,b\r1,0.5\r",
        "\ufeffa,b\n1,0.5\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_files_of_spreadsheets(tmp_path, text, encoding):
    """Where a comma is the decimal mark, cells are separated by semicolons; Excel's Unicode text is UTF-16."""
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    table = Table(tmp_path / "t.csv")
    assert table.width == 2
    assert table.numbers([0, 1])[0].tolist() == [1, 0.5]


def test_a_cell_may_have_the_other_delimiters(tmp_path):
    for text, cells in (
        ("0,x;y\n1,x;z\n", ["x;y", "x;z"]),
        ("0;x, y\n1;x\n", ["x, y", "x"]),
        ("a;b;0,5\nb;c;1,5\n", ["b", "c"]),
        ('0,"x, y"\n1,"x; z"\n', ["x, y", "x; z"]),
        ("0\tx,y\n1\tz\n", ["x,y", "z"]),
    ):
        (tmp_path / "t.csv").write_text(text)
        assert Table(tmp_path / "t.csv").cells(1) == cells


def test_a_row_may_be_longer_than_a_cell(tmp_path):
    (tmp_path / "t.csv").write_text(f"{','.join(['1.5'] * 40_000)}\n")
    assert Table(tmp_path / "t.csv").width == 40_000

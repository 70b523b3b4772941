"""Cells of CSV files: what separates them, and what their words stand for."""

import pytest

from comhe.datasets.io.cells import is_number, read_cells, whole


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("file,label\na;b.png,cat\n", ","),
        ("file;label\na.png;cat, small\n", ";"),
        ("\r\nfile\tlabel\r\na.png\t0,5\r\n", "\t"),
        ("sep=;\r\nfile;label\r\na.png;0,5\r\n", ";"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_cells_of_spreadsheets(tmp_path, text, mark, encoding):
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    assert read_cells(tmp_path / "t.csv") == (text[text.index("file") :], mark)


def test_words_are_numbers_in_many_forms():
    assert [word for word in ("1", "-0,5", "1e5", " true ", "", "a", "1,000.5") if is_number(word)] == [
        "1", "-0,5", "1e5", " true ",
    ]  # fmt: skip
    assert [*map(whole, ("2.0", "2.5", "0007", "x"))] == ["2", "2.5", "0007", "x"]

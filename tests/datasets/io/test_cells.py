"""Cells of CSV files: what separates them, and which are numbers."""

from comhe.datasets.io.cells import is_number, read_cells


def test_cells_and_what_separates_them(tmp_path):
    for above, text, mark in (
        ("", "a,b\nx;y,z\n", ","),
        ("\r\n", "a\tb\r\nx\t0,5\r\n", "\t"),
        ("sep=;\n", "a;b,c\n", ";"),
    ):
        (tmp_path / "t.csv").write_bytes((above + text).encode("utf-16"))
        assert read_cells(tmp_path / "t.csv") == (text, mark)
    assert [*map(is_number, ("-0,5", "1e5", " true ", "", "a"))] == [True, True, True, False, False]

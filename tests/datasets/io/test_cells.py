"""Cells of CSV files, and what separates them."""

from comhe.datasets.io.cells import read_cells


def test_cells_and_what_separates_them(tmp_path):
    for above, text, mark in (
        ("", "a,b\nx;y,z\n", ","),
        ("\r\n", "a\tb\r\nx\t0,5\r\n", "\t"),
        ("sep=;\n", "a;b,c\n", ";"),
    ):
        (tmp_path / "t.csv").write_bytes((above + text).encode("utf-16"))
        assert read_cells(tmp_path / "t.csv") == (text, mark)

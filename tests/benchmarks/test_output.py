"""The tables of the benchmarks."""

import json

import pytest

output = pytest.importorskip("benchmarks.output", reason="benchmarks are not installed")


def test_a_row_is_in_the_file_once_it_is_added(tmp_path):
    path = tmp_path / "table.csv"
    table = output.Table(path)
    for count, row in enumerate([{"a": "x", "b": 1.23456789}, {"a": "y", "b": 2}], start=1):
        table.add(row)
        header, *lines = path.read_text().splitlines()
        assert "torch" in json.dumps(json.loads(header.removeprefix("# ")))
        assert lines == ["a,b", "x,1.2346", "y,2"][: count + 1]
    output.Table(None).add({"a": 1})

"""Files that are complete or absent; a full disk is in test_run.py, and a killed process in tests/trust."""

import csv

import pytest

from comhe.errors import StorageError
from comhe.train.runs.files import check_writable, open_atomic, write_csv, write_text


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "first")
    with pytest.raises(KeyError, match="other"), open_atomic(path, sync=True) as file:  # noqa: PT012
        file.write(b"half")
        assert path.read_text() == "first"
        raise KeyError("other")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "first")]
    with open_atomic(path, sync=True) as file:
        file.write(b"second")
    assert path.read_text() == "second"


def test_a_table_has_all_columns_and_six_digits(tmp_path):
    path = tmp_path / "new" / "a.csv"
    write_csv(path, [{"a": 1, "b": 2 / 3}, {"a": 2, "c": "x,y"}])
    assert path.read_bytes() == b'a,b,c\n1,0.666667,\n2,,"x,y"\n'
    assert next(csv.DictReader(path.open()))["b"] == "0.666667"
    write_csv(path, [])
    assert path.read_text() == "\n"


def test_a_folder_that_cannot_be_created(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be created"):
        check_writable(tmp_path / "file" / "b")

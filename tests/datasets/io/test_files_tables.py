"""Lists in text files: read right, or one clear line."""

import pytest

from comhe.datasets import DataError
from comhe.datasets.io.files import read_lines, read_text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file; download or copy it again"),
        (b"<!DOCTYPE html>", "a web page, not the file"),
        (b"\n \n", "empty"),
        (b"a\n\nb\n", "line 2 is empty"),
        (b"a\nb\na\n", "line 3 repeats 'a'"),
        (b"a\n\xff\n", r"not a text file \(byte 2\); save it as UTF-8"),
    ],
)
def test_lists(tmp_path, content, message):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"list\.txt: {message}"):
        read_lines(tmp_path / "list.txt")


def test_empty_lines_at_the_end_are_left_out(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"a \r\nb\r\n\r\n \r\n")
    assert read_lines(tmp_path / "list.txt") == ["a", "b"]


def test_text_that_is_not_utf8_is_that_of_windows(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"K\xe4se\n")
    with pytest.warns(UserWarning, match=r"t.csv: not in UTF-8, so it is read as Windows-1252"):
        assert read_text(tmp_path / "t.csv", 99) == "Käse\n"
    (tmp_path / "list.txt").write_bytes("a\nb".encode("utf-8-sig"))
    assert read_lines(tmp_path / "list.txt") == ["a", "b"]

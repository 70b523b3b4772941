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
        (b"a\n\x81\n", r"not a text file \(byte 2\); save it as UTF-8"),
    ],
)
def test_lists(tmp_path, content, message):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"list\.txt: {message}"):
        read_lines(tmp_path / "list.txt")


def test_empty_lines_at_the_end_are_left_out(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"a \r\nb\r\n\r\n \r\n")
    assert read_lines(tmp_path / "list.txt") == ["a", "b"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_text_in_the_encodings_of_spreadsheets(tmp_path, encoding, recwarn):
    (tmp_path / "t.csv").write_bytes("Käse\r\n".encode(encoding))
    assert read_text(tmp_path / "t.csv", 99) == "Käse\r\n"
    told = [str(each.message).partition(": ")[2][:18] for each in recwarn]
    assert told == ["not in UTF-8, so i"] * (encoding == "cp1252")

"""Reading with a bound, and seeds of texts."""

import pytest

from comhe.errors import DataError
from comhe.inputs.files import read_bounded, text_seed


def test_a_file_of_the_bound_is_read_and_a_longer_one_refused(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_bounded(path, 5) == b"12345"
    with pytest.raises(DataError, match=rf"^{path}: larger than 4 bytes, the limit for such a file$"):
        read_bounded(path, 4)
    with pytest.raises(DataError, match="not a regular file"):
        read_bounded(tmp_path, 4)
    with pytest.raises(DataError, match="no such file"):
        read_bounded(tmp_path / "b", 4)


@pytest.mark.parametrize(
    ("data", "what"),
    [(b"", "an empty file"), (b"\n<html>", "a web page"), (b"version https://git-lfs.github.com/", "a pointer of Git")],
)
def test_what_lies_in_the_place_of_a_file_is_named(tmp_path, data, what):
    (tmp_path / "a.csv").write_bytes(data)
    with pytest.raises(DataError, match=rf"a\.csv: {what}"):
        read_bounded(tmp_path / "a.csv", 99)


def test_a_seed_depends_on_the_text_alone():
    assert text_seed("chair/train/chair_0001.off") == 1951507653
    assert text_seed("a\udcff") != text_seed("a"), "names of files may be any bytes"

"""Names of splits, and what operating systems leave behind."""

import pytest

from comhe.datasets import DataError
from comhe.datasets.io.layouts import children, files_below, is_stray, split_folders

LEFT = [".DS_Store", "._a.png", "Thumbs.db", "THUMBS.DB", "ehthumbs.db", "desktop.ini", "Desktop.ini", "__MACOSX"]
LEFT += [
    "Icon\r",
    "@eaDir",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
    "~$a.png",
    ".gitkeep",
    ".Trashes",
]


@pytest.mark.parametrize("name", LEFT)
def test_what_systems_leave_is_passed_over(tmp_path, name):
    assert is_stray(name)
    (tmp_path / name).write_bytes(b"")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / name).mkdir()
    (tmp_path / "a" / name / "b").write_bytes(b"")
    (tmp_path / "a" / "b").write_bytes(b"")
    assert children(tmp_path) == [tmp_path / "a"]
    assert files_below(tmp_path) == ["a/b"]


@pytest.mark.parametrize("name", ["icon", "thumbs.png", "a~", "MACOSX", "desktop", "_a.png"])
def test_what_anybody_may_have_is_not(name):
    assert not is_stray(name)


def test_splits(tmp_path):
    for name in ("Training", "validation", "TEST", "a"):
        (tmp_path / name).mkdir()
    assert split_folders(tmp_path) == {
        "train": tmp_path / "Training", "val": tmp_path / "validation", "test": tmp_path / "TEST"
    }  # fmt: skip
    (tmp_path / "valid").mkdir()
    with pytest.raises(DataError, match="both valid and validation are the val split; keep one"):
        split_folders(tmp_path)
    with pytest.raises(DataError, match="nowhere: cannot be listed"):
        children(tmp_path / "nowhere")

"""Decoded images are kept, and what is kept is never trusted blindly."""

import os
import random

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from comhe.datasets import load_images
from comhe.datasets.images import folder as images_module

from ..image_sources import pictures, same, write_tree


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A tree of 2 x (6 + 2) images of 4 x 4 pixels, an empty data root, and how often the tree is decoded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    labels = np.arange(12) % 2
    parts = {"train": (pictures(12, 0, 4, 4), labels), "test": (pictures(4, 1, 4, 4), labels[:4])}
    write_tree(tmp_path / "set", parts, ("a", "b"))
    (tmp_path / "root").mkdir()
    decode, calls = images_module.decode_tree, []
    monkeypatch.setattr(images_module, "decode_tree", lambda *args: calls.append(args) or decode(*args))
    return tmp_path, calls


def load(folder, root="root"):
    return load_images(f"folder:{folder / 'set'}", folder / root)


def kept(folder):
    [path] = folder.glob("comhe-images-*.safetensors")
    return path


def test_decoded_once(place):
    folder, calls = place
    first, second = load(folder), load(folder)
    assert same(first, second)
    assert len(calls) == 1
    assert kept(folder / "root").stat().st_mode & 0o777 == 0o644
    second.test.pixels.zero_()
    assert same(first, load(folder)), "what is done to a loaded set is not done to the file"


@pytest.mark.parametrize("change", ["contents", "time", "new file", "removed file"])
def test_a_changed_source_is_decoded_anew(place, change):
    folder, calls = place
    before = load(folder)
    file = next(path for path in sorted((folder / "set/test/a").iterdir()))
    if change == "contents":
        Image.fromarray(pictures(1, 9, 4, 4)[0]).save(file)
    elif change == "time":
        os.utime(file, ns=(1, 1))
    elif change == "new file":
        Image.fromarray(pictures(1, 9, 4, 4)[0]).save(file.with_name("new.png"))
    else:
        file.unlink()
    after = load(folder)
    assert same(after, before) == (change == "time")
    assert len(calls) == 2
    assert same(load(folder), after)
    assert len(calls) == 2
    kept(folder / "root")  # one file, the old one replaced


def test_files_of_one_size_and_time_that_change_places_are_decoded_again(place):
    """As when somebody finds that two folders have each other's names."""
    folder, calls = place
    for file in (folder / "set").rglob("*.png"):
        Image.open(file).save(file.with_suffix(".bmp"))
        file.unlink()
        os.utime(file.with_suffix(".bmp"), ns=(1, 1))
    before, train = load(folder), folder / "set/train"
    for old, new in (("a", "c"), ("b", "a"), ("c", "b")):
        (train / old).rename(train / new)
    after = load(folder)
    assert not torch.equal(before.train.pixels, after.train.pixels)
    assert len(calls) == 2


def test_truncated_caches_are_replaced(place):
    folder, calls = place
    reference = load(folder)
    path = kept(folder / "root")
    data = path.read_bytes()
    ends = [*range(12), *range(12, len(data), len(data) // 40), len(data) - 1]
    for end in ends:
        path.write_bytes(data[:end])
        assert same(load(folder), reference)
        assert path.stat().st_size == len(data)
    assert len(calls) == 1 + len(ends)


def test_damaged_caches_are_replaced(place):
    folder, calls = place
    reference = load(folder)
    path = kept(folder / "root")
    data = path.read_bytes()
    draw = random.Random(0)
    header = 8 + int.from_bytes(data[:8], "little")
    for i in range(150):
        flipped = bytearray(data)
        flipped[draw.randrange(header if i % 2 else len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        assert same(load(folder), reference)
    # A flip may hit only padding, or turn one way to write the header into another.
    assert len(calls) > 1 + 140


def test_another_sets_cache_does_not_count(place):
    folder, calls = place
    reference = load(folder)
    path = kept(folder / "root")
    for foreign in ({}, {"train.pixels": np.zeros(3)}):
        save_file(foreign, path)
        assert same(load(folder), reference)
    assert len(calls) == 3


def test_user_cache_where_the_root_cannot_be_written(place):
    folder, calls = place
    (folder / "file").write_bytes(b"")  # as a data root: nothing can be made below it
    first, second = load(folder, "file"), load(folder, "file")
    assert same(first, second)
    assert len(calls) == 1
    kept(folder / "user" / "comhe")


def test_no_cache_where_nothing_can_be_written(place, monkeypatch):
    folder, calls = place
    (folder / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "file"))
    assert same(load(folder, "file"), load(folder, "file"))
    assert len(calls) == 2


def test_an_interrupted_write_leaves_nothing(place, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    folder, _ = place
    monkeypatch.setattr("comhe.datasets.io.files.os.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load(folder)
    assert list((folder / "root").iterdir()) == []

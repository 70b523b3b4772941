"""Numbers in text, the text release, and the cache that spares parsing it again."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from comhe.datasets import DataError
from comhe.datasets.points import modelnet
from comhe.datasets.points import text as text_clouds
from comhe.datasets.points.load import load_points
from comhe.datasets.points.number_text import _fixed_point, parse_table
from comhe.datasets.points.text import load_text_release

from .test_points import check

SIX = (6,)


def text_of(table, digits=6, separator=",", end="\n") -> bytes:
    return (end.join(separator.join(f"{v:.{digits}f}" for v in row) for row in table) + end).encode()


@given(
    table=st.integers(1, 6).flatmap(
        lambda width: st.lists(
            st.lists(st.floats(-9.9999, 9.9999), min_size=width, max_size=width), min_size=1, max_size=5
        )
    ),
    digits=st.integers(0, 9),
    separator=st.sampled_from([",", " ", ", ", "\t"]),
    end=st.sampled_from(["\n", "\r\n", " \n"]),
)
@settings(max_examples=200, deadline=None)
def test_any_way_of_writing_gives_what_float_gives(table, digits, separator, end):
    data = text_of(table, digits, separator, end)
    expected = [[float(f"{v:.{digits}f}") for v in row] for row in table]
    assert parse_table(data, Path("file"), (len(table[0]),)).tolist() == expected


@given(st.text("0123456789-.,\n", max_size=60))
@settings(max_examples=300, deadline=None)
def test_the_fast_way_never_reads_what_is_not_such_a_table(text):
    data = (text.strip("\n") + "\n").encode()
    table = _fixed_point(data)
    if table is not None:
        assert table.tolist() == [[float(word) for word in line.split(b",")] for line in data.splitlines()]


def test_one_changed_character_is_never_misread():
    whole = b"0.123456,-1.500000\n-0.000001,7.000000\n"
    for at in range(len(whole)):
        for character in b"19.,-+ e:/\n":
            data = whole[:at] + bytes([character]) + whole[at + 1 :].rstrip() + b"\n"
            table = _fixed_point(data)
            if table is not None:
                assert table.tolist() == [[float(word) for word in line.split(b",")] for line in data.splitlines()]


def test_the_published_way_of_writing_is_read_the_fast_way():
    table = np.random.default_rng(0).uniform(-1, 1, (1000, 6)).round(6)
    table[0, :2] = 0, -0.0
    fast = _fixed_point(text_of(table))
    assert (fast == table).all()
    assert np.signbit(fast[0, :2]).tolist() == [False, True]


def test_comments_empty_lines_and_exponents():
    data = b"# x y z\n1 2 3\n\n4e0, 5, -6E-1 # the last\n\n"
    assert parse_table(data, Path("file"), (3,)).tolist() == [[1, 2, 3], [4, 5, -0.6]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no numbers"),
        (b"\n# 1 2 3\n", "holds no numbers"),
        (b"1 2 3\n4 5 x6\n", "line 2: 'x6' is no number"),
        (b"# a\n\n1 2 3\n4 5\n", "line 4: 2 numbers, where the first line has 3"),
        (b"0.100000,0.200000,0.300000\n0.400000,0.500000\n", "line 2: 2 numbers, where the first line has 3"),
        (b"1 2\n3 4\n", "line 1: 2 numbers, where 3 are read"),
        (b"1 2 3\n4 5 \xff\x00\n", "line 2: .* is no number"),
        (b"1,,3\n1,2,3\n", "line 2: 3 numbers, where the first line has 2"),
        (b"0x1 2 3\n", "line 1: '0x1' is no number"),
    ],
)
def test_faults_name_the_line(data, message):
    with pytest.raises(DataError, match=f"^file: {message}") as caught:
        parse_table(data, Path("file"), (3,))
    assert "\n" not in str(caught.value)


# The release ------------------------------------------------------------------------------------------------------

CLASSES = ("night_stand", "sofa")


def cloud_of(seed, points=20):
    return np.random.default_rng(seed).uniform(-1, 1, (points, 6))


@pytest.fixture
def release(tmp_path, monkeypatch):
    """Two classes, one with an underscore in its name; 8 + 3 clouds of 20 points."""
    folder = tmp_path / "modelnet40_normal_resampled"
    names = {
        "train": [f"{CLASSES[i % 2]}_{i:04}" for i in range(8)],
        "test": [f"{CLASSES[i % 2]}_{i:04}" for i in (8, 9, 10)],
    }
    for i, name in enumerate(names["train"] + names["test"]):
        file = folder / CLASSES[i % 2] / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text_of(cloud_of(i)))
    for split, listed in names.items():
        (folder / f"modelnet40_{split}.txt").write_text("\n".join(listed) + "\n")
    (folder / "modelnet40_shape_names.txt").write_text("\n".join(CLASSES))
    monkeypatch.setattr(modelnet, "CENSUS", ((8, 3),))
    monkeypatch.setattr(modelnet, "CLASSES", 2)
    return folder


def test_release(release):
    clouds = load_points("modelnet40-normals", release.parent)
    check(clouds)
    assert repr(clouds) == "Clouds('modelnet40-normals', points=20, channels=6, classes=2, train=6, val=2, test=3)"
    assert clouds.classes == CLASSES
    assert clouds.test.labels.tolist() == [0, 1, 0]
    raw = cloud_of(8).round(6)
    places = raw[:, :3] - raw[:, :3].mean(0)
    expected = np.concatenate([places / np.linalg.norm(places, axis=1).max(), raw[:, 3:]], axis=1)
    torch.testing.assert_close(clouds.test.points[0], torch.as_tensor(expected, dtype=torch.float32))


def test_parsed_once_and_again_when_a_file_changes(release, monkeypatch):
    calls = []
    parse = text_clouds.parse_table
    monkeypatch.setattr(
        text_clouds, "parse_table", lambda data, path, **k: calls.append(path) or parse(data, path, **k)
    )
    cache = release.parent / "cache"
    first = load_text_release(release, cache)
    assert len(calls) == 11
    again = load_text_release(release, cache)
    assert len(calls) == 11
    for split in ("train", "test"):
        assert (first[0][split][0] == again[0][split][0]).all()
        assert (first[0][split][1] == again[0][split][1]).all()
    file = release / "sofa" / "sofa_0001.txt"
    stamp = file.stat().st_mtime_ns
    os.utime(file, ns=(stamp, stamp + 1))
    load_text_release(release, cache)
    assert len(calls) == 22, "another time"
    file.write_bytes(text_of(cloud_of(99)) + b"\n\n\n\n")
    os.utime(file, ns=(stamp, stamp + 1))
    changed = load_text_release(release, cache)
    assert len(calls) == 33, "another size"
    assert (changed[0]["train"][0] != first[0]["train"][0]).any()
    assert len(list(cache.iterdir())) == 1, "what is out of date is not kept"


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "text"])
def test_a_damaged_cache_is_made_anew(release, damage):
    cache = release.parent / "cache"
    first = load_text_release(release, cache)
    (kept,) = cache.iterdir()
    data = bytearray(kept.read_bytes())
    data[3000] ^= 1
    kept.write_bytes({"flip": data, "cut": data[:-100], "empty": b"", "text": b"no archive"}[damage])
    again = load_text_release(release, cache)
    assert (first[0]["train"][0] == again[0]["train"][0]).all()
    assert [path.name for path in cache.iterdir()] == [kept.name]
    assert kept.stat().st_size == len(data)


def test_without_a_place_for_the_cache_it_does_as_well(release, tmp_path):
    (tmp_path / "file").touch()
    parts, _ = load_text_release(release, tmp_path / "file" / "cache")
    assert parts["train"][0].shape == (8, 20, 6)


def lines_of(seed):
    return text_of(cloud_of(seed)).split(b"\n")


BAD = {
    "nan": (b"\n".join([b"nan,0,0,0,0,1", *lines_of(3)[1:]]), "the cloud has a value that is not finite"),
    "one line": (lines_of(3)[0], "a cloud of 1 point"),
    "one place": (b"0.1,0.2,0.3,0,0,1\n" * 20, "the cloud has only one place"),
    "cut in a line": (text_of(cloud_of(3))[:-12], "line 20: 5 numbers, where the first line has 6"),
    "fewer lines": (b"\n".join(lines_of(3)[:15]), "15 points, where .*night_stand_0000.txt has 20"),
    "a word": (b"\n".join([*lines_of(3)[:4], b"a,b,c,d,e,f"]), "line 5: 'a' is no number"),
    "no normals": (text_of(cloud_of(3)[:, :3]), "line 1: 3 numbers, where 6 are read"),
    "empty": (b"", "holds no numbers"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_named_and_nothing_is_kept(release, case):
    content, message = BAD[case]
    file = release / "sofa" / "sofa_0003.txt"
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"^{file}: {message}") as caught:
        load_points("modelnet40-normals", release.parent)
    assert "\n" not in str(caught.value)
    assert not list(release.parent.glob("*.npz"))


def test_missing_and_foreign_names(release):
    (release / "sofa" / "sofa_0003.txt").unlink()
    with pytest.raises(DataError, match=r"sofa_0003\.txt: cannot be read \(No such file"):
        load_points("modelnet40-normals", release.parent)
    (release / "modelnet40_train.txt").write_text("bed_0001\n")
    with pytest.raises(DataError, match=r"modelnet40_train\.txt: line 1: 'bed_0001' is no cloud of a known class"):
        load_points("modelnet40-normals", release.parent)
    (release / "modelnet40_train.txt").write_text("sofa_0001\n")
    (release / "modelnet40_test.txt").write_text("sofa_0009\nsofa_../../x\n")
    with pytest.raises(DataError, match=r"modelnet40_test\.txt: line 2: 'sofa_../../x' is no cloud of a known class"):
        load_points("modelnet40-normals", release.parent)


def test_another_census_is_refused(release, monkeypatch):
    monkeypatch.setattr(modelnet, "CENSUS", ((9843, 2468),))
    with pytest.raises(DataError, match=r"not ModelNet-40: 8 \+ 3 clouds of 2 classes"):
        load_points("modelnet40-normals", release.parent)

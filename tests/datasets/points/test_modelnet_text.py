"""The text release of ModelNet-40, and the cache that spares parsing it again."""

import os

import numpy as np
import pytest
import torch

from comhe.datasets import DataError, load_points
from comhe.datasets.points import modelnet
from comhe.datasets.points.modelnet import load_text_release

from .test_clouds import check


def text_of(table, digits=6, separator=",", end="\n") -> bytes:
    return (end.join(separator.join(f"{v:.{digits}f}" for v in row) for row in table) + end).encode()


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
    parse = modelnet.parse_table
    monkeypatch.setattr(modelnet, "parse_table", lambda data, path, **k: calls.append(path) or parse(data, path, **k))
    cache = release.parent / "cache"
    first = load_text_release(release, cache)
    assert len(calls) == 11
    again = load_text_release(release, cache)
    assert len(calls) == 11
    for split in ("train", "test"):
        assert (first.splits[split][0] == again.splits[split][0]).all()
        assert (first.splits[split][1] == again.splits[split][1]).all()
    file = release / "sofa" / "sofa_0001.txt"
    stamp = file.stat().st_mtime_ns
    os.utime(file, ns=(stamp, stamp + 1))
    load_text_release(release, cache)
    assert len(calls) == 22, "another time"
    file.write_bytes(text_of(cloud_of(99)) + b"\n\n\n\n")
    os.utime(file, ns=(stamp, stamp + 1))
    changed = load_text_release(release, cache)
    assert len(calls) == 33, "another size"
    assert (changed.splits["train"][0] != first.splits["train"][0]).any()
    assert len(list(cache.iterdir())) == 1, "what is out of date is not kept"


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "text"])
def test_a_damaged_cache_is_replaced(release, damage):
    cache = release.parent / "cache"
    first = load_text_release(release, cache)
    (kept,) = cache.iterdir()
    data = bytearray(kept.read_bytes())
    data[-3000] ^= 1
    kept.write_bytes({"flip": data, "cut": data[:-100], "empty": b"", "text": b"no archive"}[damage])
    again = load_text_release(release, cache)
    assert (first.splits["train"][0] == again.splits["train"][0]).all()
    assert [path.name for path in cache.iterdir()] == [kept.name]
    assert kept.stat().st_size == len(data)


def test_without_a_writable_folder_nothing_is_kept(release, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    decoded = load_text_release(release, tmp_path / "file" / "cache")
    assert decoded.splits["train"][0].shape == (8, 20, 6)


def lines_of(seed):
    return text_of(cloud_of(seed)).split(b"\n")


BAD = {
    "nan": (b"\n".join([b"nan,0,0,0,0,1", *lines_of(3)[1:]]), "the cloud has a value that is not finite"),
    "one line": (lines_of(3)[0], "a cloud of 1 point"),
    "one place": (b"0.1,0.2,0.3,0,0,1\n" * 20, "the cloud has all points at one position"),
    "cut in a line": (text_of(cloud_of(3))[:-12], "not a table of numbers .*columns changed from 6 to 5"),
    "fewer lines": (b"\n".join(lines_of(3)[:15]), "15 points, but .*night_stand_0000.txt has 20"),
    "a word": (b"\n".join([*lines_of(3)[:4], b"a,b,c,d,e,f"]), "not a table of numbers .*'a'"),
    "no normals": (text_of(cloud_of(3)[:, :3]), "has 3 columns"),
    "empty": (b"", "an empty file; download or copy it again"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_named_and_nothing_is_kept(release, case):
    content, message = BAD[case]
    file = release / "sofa" / "sofa_0003.txt"
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"^{file}: {message}") as caught:
        load_points("modelnet40-normals", release.parent)
    assert "\n" not in str(caught.value)
    assert not list(release.parent.glob("*.safetensors"))


def test_missing_and_foreign_names(release):
    (release / "sofa" / "sofa_0003.txt").unlink()
    with pytest.raises(DataError, match=r"sofa_0003\.txt: cannot be read \(No such file"):
        load_points("modelnet40-normals", release.parent)
    (release / "modelnet40_train.txt").write_text("bed_0001\n")
    with pytest.raises(DataError, match=r"modelnet40_train\.txt: line 1: 'bed_0001' is not a cloud of a known class"):
        load_points("modelnet40-normals", release.parent)
    (release / "modelnet40_train.txt").write_text("sofa_0001\n")
    (release / "modelnet40_test.txt").write_text("sofa_0009\nsofa_../../x\n")
    with pytest.raises(DataError, match=r"modelnet40_test\.txt: line 2: 'sofa_../../x' is not a cloud"):
        load_points("modelnet40-normals", release.parent)


def test_another_census_is_refused(release, monkeypatch):
    monkeypatch.setattr(modelnet, "CENSUS", ((9843, 2468),))
    with pytest.raises(DataError, match=r"not ModelNet-40: 8 \+ 3 clouds of 2 classes"):
        load_points("modelnet40-normals", release.parent)

"""From archive or tree to arrays: on tiny sets written here, and on the real one where it is."""

import gzip
import hashlib
import io
import os
import pickle
import random
import tarfile
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from comhe.datasets import AlteredDataWarning, DataError, MissingDataError, data_root, describe, load_images
from comhe.datasets.images import cifar
from comhe.datasets.images.cifar import SETS

from ..conftest import python2
from ..image_sources import (
    CLASSES,
    SPEC,
    SPEC10,
    archive,
    batch,
    contents,
    contents10,
    pictures,
    same,
    tiny_cifar,  # noqa: F401 - a fixture
    tiny_parts,
    write_tree,
)
from .test_sets import check, moments


@pytest.fixture
def root(tiny_cifar):  # noqa: F811
    return tiny_cifar


def put(root, monkeypatch, files=None, published=True, name="cifar100", **how):
    data = archive(files or contents(), SETS[name].folder, **how)
    (root / SETS[name].archive).write_bytes(data)
    if published:
        monkeypatch.setitem(SETS, name, replace(SETS[name], sha256=hashlib.sha256(data).hexdigest()))
    return root / SETS[name].archive


def rows(pixels, labels) -> list[bytes]:
    return sorted(bytes([label]) + image.tobytes() for image, label in zip(np.asarray(pixels), labels, strict=True))


@pytest.mark.parametrize("dump", [python2, lambda value: pickle.dumps(value, 2), lambda value: pickle.dumps(value, 4)])
def test_archive(root, monkeypatch, dump):
    put(root, monkeypatch, dump=dump)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = load_images("cifar100", root)
    check(images)
    assert images.classes == CLASSES
    assert (len(images.train), len(images.val), len(images.test)) == (27, 3, 6)
    both = [torch.cat([getattr(images.train, kind), getattr(images.val, kind)]) for kind in ("pixels", "labels")]
    assert rows(*both) == rows(*tiny_parts()["train"])
    assert rows(images.test.pixels, images.test.labels) == rows(*tiny_parts()["test"])
    assert images.shape == (3, 32, 32)


def test_tree_archive_and_cache_are_the_same_set(root, monkeypatch, tmp_path):
    write_tree(tmp_path / "other" / "cifar100")
    tree = load_images("cifar100", tmp_path / "other", workers=0)
    put(root, monkeypatch)
    packed, again = load_images("cifar100", root), load_images("cifar100", root)
    assert same(tree, packed)
    assert same(packed, again)
    assert len(list(root.glob("comhe-cifar100-*.safetensors"))) == 1
    assert "image files" in tree.source
    assert "cifar-100-python.tar.gz" in packed.source


def test_cifar10_has_five_files(root, monkeypatch):
    put(root, monkeypatch, contents10(), name="cifar10")
    images = load_images("cifar10", root)
    check(images)
    both = [torch.cat([getattr(images.train, kind), getattr(images.val, kind)]) for kind in ("pixels", "labels")]
    assert rows(*both) == rows(*tiny_parts()["train"])


def test_an_altered_archive_is_used_with_a_warning_each_time(root, monkeypatch):
    put(root, monkeypatch, published=False)
    for _ in range(2):  # the second time from the cache
        with pytest.warns(
            AlteredDataWarning, match=r"root/cifar-100-python\.tar\.gz is not the published file"
        ) as seen:
            load_images("cifar100", root)
        assert seen[0].filename == __file__


def test_missing_archive_names_the_fix(root):
    with pytest.raises(
        MissingDataError, match=r"neither cifar-100-python\.tar\.gz nor cifar100/train.*--data-root"
    ) as e:
        load_images("cifar100", root)
    assert "\n" not in str(e.value)
    assert str(root) in str(e.value)
    assert list(root.iterdir()) == []


def test_missing_archive_is_downloaded_once(root, monkeypatch, tmp_path):
    (tmp_path / "mirror").mkdir()
    put(tmp_path / "mirror", monkeypatch)
    check(load_images("cifar100", root))
    (tmp_path / "mirror" / SPEC.archive).unlink()
    check(load_images("cifar100", root))


def test_a_different_download_is_refused(root, tmp_path):
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / SPEC.archive).write_bytes(archive(contents()))
    with pytest.raises(MissingDataError, match="sha256"):
        load_images("cifar100", root)
    assert list(root.iterdir()) == []


def changed(file: str, **changes) -> dict:
    before = contents()
    return {**before, file: {k: v for k, v in before[file].items() if k.decode() not in changes} | changes}


PIXELS, LABELS = tiny_parts()["train"]
INVALID = {
    "no data": changed("train", data=None),
    "data of floats": changed("train", data=np.zeros((30, 3072))),
    "data of another width": changed("train", data=np.zeros((30, 3071), dtype=np.uint8)),
    "data of one dimension": changed("train", data=np.zeros(3072, dtype=np.uint8)),
    "data of too few rows": changed("train", data=np.zeros((29, 3072), dtype=np.uint8)),
    "no labels": changed("train", fine_labels=None),
    "labels as array": changed("train", fine_labels=LABELS),
    "label too large": changed("train", fine_labels=[3, *LABELS[1:].tolist()]),
    "negative label": changed("train", fine_labels=[-1, *LABELS[1:].tolist()]),
    "label of another type": changed("train", fine_labels=[True, *LABELS[1:].tolist()]),
    "another class too often": changed("train", fine_labels=[(LABELS[0] + 1) % 3, *LABELS[1:].tolist()]),
    "a list": contents(train=[1, 2]),
    "an array": contents(test=np.zeros((6, 3072), dtype=np.uint8)),
    "too few test images": contents(test=batch(PIXELS[:5], LABELS[:5])),
    "names missing": contents(meta={}),
    "names too few": contents(meta={b"fine_label_names": [b"a", b"b"]}),
    "a name twice": contents(meta={b"fine_label_names": [b"a", b"b", b"a"]}),
    "names of another type": contents(meta={b"fine_label_names": [1, 2, 3]}),
    "no pickle": contents(meta=b"fine"),
    "a file missing": {name: value for name, value in contents().items() if name != "test"},
    "a call": contents(meta=b"\x80\x02cos\nsystem\nU\x02id\x85R."),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_contents(root, monkeypatch, name):
    put(root, monkeypatch, INVALID[name])
    with pytest.raises(DataError, match=r"cifar-100-python\.tar\.gz: ?") as caught:
        load_images("cifar100", root)
    assert "\n" not in str(caught.value)
    assert [path.name for path in root.iterdir()] == [SPEC.archive], "nothing half loaded is kept"


def test_every_truncation_is_refused(root, monkeypatch):
    path = put(root, monkeypatch)
    size = path.stat().st_size
    for end in [size - 1, *reversed(range(40, size, size // 60)), *reversed(range(1, 40))]:
        os.truncate(path, end)
        with pytest.raises(DataError, match=r"cifar-100-python\.tar\.gz: damaged or not such an archive") as caught:
            load_images("cifar100", root)
        assert "\n" not in str(caught.value)
    assert [p.name for p in root.iterdir()] == [SPEC.archive]


def test_bit_flips_are_refused_or_change_nothing(root, monkeypatch):
    path = put(root, monkeypatch)
    reference, data = load_images("cifar100", root), path.read_bytes()
    draw, refused = random.Random(0), []
    for _ in range(60):
        flipped = bytearray(data)
        # Half of them in the headers, which no checksum covers.
        flipped[draw.randrange(len(data) if draw.random() < 0.5 else 12)] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AlteredDataWarning)
            try:
                loaded = load_images("cifar100", root)
            except DataError as error:
                refused.append(str(error))
            else:
                assert same(loaded, reference)
    assert len(refused) > 30
    assert not any("\n" in reason for reason in refused)


def packed(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1, format=tarfile.PAX_FORMAT) as tar:
        for member, data in members:
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def test_crafted_archives(root, monkeypatch):
    monkeypatch.setattr(cifar, "MAX_BYTES", 1 << 20)
    path = root / SPEC.archive
    link = tarfile.TarInfo(f"{SPEC.folder}/train")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    sparse = tarfile.TarInfo(f"{SPEC.folder}/train")
    sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 50)}
    sparse.size = 512
    others = []
    for file in ("test", "meta"):
        others.append((tarfile.TarInfo(f"{SPEC.folder}/{file}"), python2(contents()[file])))
        others[-1][0].size = len(others[-1][1])
    for data, reason in (
        (packed([(link, b""), *others]), "lacks cifar-100-python/train;"),
        (packed([(sparse, b"0\n" + bytes(510)), *others]), "lacks cifar-100-python/train;"),
        (gzip.compress(bytes(2 << 20)), "unpacks to more than 1,048,576 bytes"),
        (bytes(2 << 20), "larger than 1,048,576 bytes"),
        (b"", "an empty file; download or copy it again"),
        (b"no archive", "damaged"),
        (gzip.compress(b"no tar file" * 100), "damaged"),
    ):
        path.write_bytes(data)
        with pytest.raises(DataError, match=reason):
            load_images("cifar100", root)


TREES = {
    "an image of another size": ("train/bear/0001.png", pictures(1, 0, 32, 33)[0], "has 33x32 pixels, .* have 32x32"),
    "an image too many": ("test/cup/9999.png", pictures(1, 0)[0], r"class 'cup' has 3 test images, not 2"),
    "a class too many": ("train/dog/0000.png", pictures(1, 0)[0], "test/dog: has no image"),
}


@pytest.mark.parametrize("name", TREES)
def test_invalid_trees(root, name):
    from PIL import Image

    file, image, reason = TREES[name]
    folder = write_tree(root / "cifar100")
    path = folder / file
    if name == "an image of another size":
        path = next((folder / "train/bear").iterdir())
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(image).save(path)
    with pytest.raises(DataError, match=reason) as caught:
        load_images("cifar100", root, workers=0)
    assert str(folder) in str(caught.value)
    assert [p.name for p in root.iterdir()] == ["cifar100"]


def test_cifar100_spec_is_the_published_one():
    assert (SPEC.archive, SPEC10.archive) == ("cifar-100-python.tar.gz", "cifar-10-python.tar.gz")
    assert (
        SETS["cifar100"].classes * SETS["cifar100"].train == SETS["cifar10"].classes * SETS["cifar10"].train == 50_000
    )


def test_census_of_the_real_cifar100():
    if not any((data_root() / source).exists() for source in ("cifar-100-python.tar.gz", "cifar100/train")):
        pytest.skip("no CIFAR-100 in the data root; set $COMHE_DATA to test it")
    images = load_images("cifar100")
    check(images)
    assert images.shape == (3, 32, 32)
    assert (len(images.train), len(images.val), len(images.test)) == (45_000, 5_000, 10_000)
    for part, count in ((images.train, 450), (images.val, 50), (images.test, 100)):
        assert part.labels.bincount().tolist() == [count] * 100
    assert (images.classes[0], images.classes[1], images.classes[99]) == ("apple", "aquarium_fish", "worm")
    # Means and deviations over all 50,000 training images, as everybody quotes them.
    mean, std = zip(*moments(torch.cat([images.train.pixels, images.val.pixels])), strict=True)
    assert mean == pytest.approx((0.5071, 0.4865, 0.4409), abs=1e-4)
    assert std == pytest.approx((0.2673, 0.2564, 0.2762), abs=1e-4)
    assert describe(images)["mean"] == " ".join(f"{v:.4f}" for v in images.mean)


@pytest.mark.parametrize("name", ["cifar-10-batches-bin/batches.meta.txt", "cifar-100-binary/fine_label_names.txt"])
def test_the_binary_version_is_named(root, name):
    file = root / name
    file.parent.mkdir()
    file.write_text("apple\n")
    for path in (root, file.parent):
        with pytest.raises(MissingDataError, match="has no images, but the binary version of CIFAR, which is not read"):
            load_images(f"folder:{path}", root)
    with pytest.raises(MissingDataError, match="nor cifar10/train, but the binary version of CIFAR"):
        load_images("cifar10", root)


@pytest.mark.parametrize(("name", "spec", "made"), [("cifar100", SPEC, contents), ("cifar10", SPEC10, contents10)])
@pytest.mark.parametrize("place", [".", "inside"])
def test_an_extracted_archive(root, name, spec, made, place):
    """In the data root, in the set's folder there, or as a folder of one's own: the same images in the same order."""
    folder = root / (place if place == "." else name) / spec.folder
    folder.mkdir(parents=True)
    for file, value in made().items():
        (folder / file).write_bytes(python2(value))
    images = load_images(name, root, workers=0)
    assert images.name == name
    assert "extracted" in images.source
    for path in (folder, folder.parent):
        own = load_images(f"folder:{path}", root, workers=0)
        assert same(own, images)
    (root / spec.archive).write_bytes(archive(made(), spec.folder))
    with pytest.warns(AlteredDataWarning):
        assert same(load_images(name, root, workers=0), images)
    (folder / spec.test_file).write_bytes(b"")
    with pytest.raises(DataError, match=rf"{spec.folder}/{spec.test_file}: an empty file"):
        load_images(f"folder:{folder}", root, workers=0)

"""Small sets of image files."""

import numpy as np
import pytest
from PIL import Image

from ..image_sources import pictures, write_tree

LABELS = np.arange(20) % 2


@pytest.fixture
def small(tmp_path, monkeypatch):
    """20 + 4 images of 5 x 6 pixels in two classes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.delenv("COMHE_DATA", raising=False)
    parts = {"train": (pictures(20, 0, 6, 5), LABELS), "test": (pictures(4, 1, 6, 5), LABELS[:4])}
    return write_tree(tmp_path / "set", parts, ("a", "b"))


def smooth(seed: int, width: int, height: int) -> Image.Image:
    """What JPEG changes little."""
    return Image.fromarray(pictures(1, seed, 4, 4)[0]).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """11 + 5 JPEG files of various sizes in three classes, as in ImageNet without a test split."""
    folder = tmp_path_factory.mktemp("photographs") / "imagenet"
    for split, count in (("train", 11), ("val", 5)):
        for i in range(count):
            path = folder / split / f"n0{i % 3}" / f"{split}_{i}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            smooth(i, 60 + 7 * i, 50 + 5 * (i % 4)).save(path)
    return folder

"""ImageNet is read only if it is complete."""

import pytest

from comhe.datasets import DataError, ResizedCrop, load_images
from comhe.datasets.images import folder


def test_imagenet_is_the_whole_of_it(photographs, monkeypatch):
    with pytest.raises(DataError, match=r"not imagenet: \(3, 11, 5\).*a subset of it is folder:"):
        load_images("imagenet", photographs.parent)
    monkeypatch.setattr(folder, "CENSUS", (3, 11, 5))
    images = load_images("imagenet-random0", photographs.parent, workers=0)
    assert images.name == "imagenet-random0"
    assert images.val.labels.tolist() == [0, 1, 2], "one of each class, where a hundredth is less"
    assert images.augmentation == ResizedCrop()
    assert "ILSVRC 2012" in images.source

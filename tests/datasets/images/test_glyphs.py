"""The built-in glyphs: their census, that they are the same everywhere, and that they can be learned."""

import hashlib

import pytest
import torch
from PIL import features

from comhe.datasets import Augmentation, load_images

from .test_sets import check


@pytest.mark.parametrize("name", ["glyphs", "glyphs-random0", "glyphs-random12"])
def test_glyphs(name):
    images = load_images(name, root="no/such/folder")
    check(images)
    assert images.name == name
    assert images.shape == (3, 32, 32)
    assert "".join(images.classes) == "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    for part, count in ((images.train, 200), (images.val, 50), (images.test, 100)):
        assert part.labels.bincount().tolist() == [count] * 36
    assert images.augmentation == Augmentation(flip=False), "mirrored letters are other letters"


def test_digits_are_those_of_the_glyphs_at_half_their_size():
    digits, glyphs = load_images("digits"), load_images("glyphs").test
    check(digits)
    assert digits.shape == (3, 16, 16)
    assert digits.classes == tuple("0123456789")
    for part, count in ((digits.train, 200), (digits.val, 50), (digits.test, 100)):
        assert part.labels.bincount().tolist() == [count] * 10
    whole = glyphs.pixels[glyphs.labels < 10]
    means = torch.nn.functional.avg_pool2d(whole.permute(0, 3, 1, 2).double(), 2).permute(0, 2, 3, 1)
    assert ((means - digits.test.pixels) < 1).all()  # rounded down
    assert digits.augmentation == Augmentation(flip=False)


def test_glyphs_are_the_same_everywhere():
    """Results that name `glyphs` compare only while these stay; a change of the generator needs a new name."""
    pixels = load_images("glyphs").test.pixels
    # FreeType versions may smooth edges differently, which the generator all but removes.
    assert pixels.double().mean().item() == pytest.approx(126.5874, abs=0.01)
    if features.version("freetype2") == "2.14.3":
        assert hashlib.sha256(pixels.numpy().tobytes()).hexdigest()[:16] == "7acda666e9b71af5"


def test_glyphs_can_be_told_apart():
    """Far from chance for the nearest mean of each class, far from solved: what a network has to learn is in them."""
    images = load_images("glyphs")

    def grays(part):
        # Contrast has either sign, so a pixel's distance from the image's median counts.
        x = part.pixels.double().mean(3).flatten(1)
        x = (x - x.median(1, keepdim=True).values).abs()
        return x / x.norm(dim=1, keepdim=True)

    train, test = grays(images.train), grays(images.test)
    means = torch.stack([train[images.train.labels == label].mean(0) for label in range(36)])
    accuracy = ((test @ means.T - (means * means).sum(1) / 2).argmax(1) == images.test.labels).double().mean()
    assert 3 / 36 < accuracy < 0.5

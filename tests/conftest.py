"""What tests of several folders use."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Three classes of 16 x 16 images: stripes of three widths in noise; 8 to train, 2 to validate, 5 to test."""
    root = tmp_path_factory.mktemp("stripes")
    draw = np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 2), ("test", 5)):
        for label in range(3):
            place = root / part / f"width{label}"
            place.mkdir(parents=True)
            for i in range(count):
                stripes = np.repeat(np.arange(16) // 2**label % 2, 16 * 3).reshape(16, 16, 3)
                pixels = 160 * stripes + draw.integers(0, 90, (16, 16, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{i}.png")
    return root

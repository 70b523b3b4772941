"""What tests of several folders use."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

if not torch.cuda.is_available():
    # Kernels run in Triton's interpreter then. Triton reads this when it is imported, which nothing does before.
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session")
def device():
    """Where kernels are tested: on the GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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

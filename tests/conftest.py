"""What tests of several folders use, and the order in which they run."""

import dataclasses
import gc
import os
import re
from collections import Counter
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

gc.disable()  # what is imported and collected stays: to look through it again and again takes a third of the time

LONG = ("test_types.py", "test_ranks.py", "test_interruption.py", "test_contributor.py", "test_hostile.py")
pytest_plugins = ["tests.tally"]


@pytest.fixture(scope="session")
def device():
    """Where kernels are tested: on the GPU if there is one, else on the CPU in Triton's interpreter."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    if find_spec("triton"):
        from tests import interpreter

        if not interpreter.interprets():
            pytest.skip(f"Triton's interpreter fails with NumPy {np.__version__}: install numpy<2.4 or a newer torch")
        interpreter.use_shortcuts()
    return torch.device("cpu")


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


def pytest_collection(session):
    """Without a GPU, kernels run in Triton's interpreter, which Triton is told before it is imported.

    The process that hands out the tests to others (its `dist` is not "no") runs none, and does not import torch.
    """
    if session.config.getoption("dist", "no") == "no":
        import torch

        if not torch.cuda.is_available():
            os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_collection_modifyitems(items):
    """Files of few and long tests first, then those of the most tests: several processes end at the same time."""
    count = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path.name not in LONG, -count[item.path]))


def pytest_collection_finish(session):
    gc.freeze()
    gc.set_threshold(20_000)
    gc.enable()


@pytest.fixture
def without_values(monkeypatch):
    """Weights are left as they are allocated: the meta device has no values, and takes long to draw none."""
    import torch

    for name in [name for name in vars(torch.nn.init) if re.fullmatch(r"[a-z]\w*_", name)]:
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *args, **kwargs: tensor)


@pytest.fixture
def registry(monkeypatch):
    """Whatever recipe a test registers is forgotten: other tests sweep over all that there are."""
    from comhe.train import recipe

    recipe.domains()
    copies = {name: dataclasses.replace(d, recipes=dict(d.recipes)) for name, d in recipe._domains.items()}
    monkeypatch.setattr(recipe, "_domains", copies)

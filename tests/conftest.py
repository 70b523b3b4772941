"""What tests of several folders use, and the order in which they run."""

import dataclasses
import gc
import os
import re
from collections import Counter
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image

if not torch.cuda.is_available():
    # Kernels run in Triton's interpreter then. Triton reads this when it is imported, which nothing does before.
    os.environ.setdefault("TRITON_INTERPRET", "1")

gc.disable()  # what is imported and collected stays: to look through it again and again takes a third of the time

LONG = ("test_types.py", "test_ranks.py", "test_interruption.py", "test_contributor.py", "test_hostile.py")
pytest_plugins = ["tests.tally"]


@pytest.fixture(scope="session")
def device():
    """Where kernels are tested: on the GPU if there is one, else on the CPU in Triton's interpreter."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if find_spec("triton"):
        if not interprets():
            pytest.skip(f"Triton's interpreter fails with NumPy {np.__version__}: install numpy<2.4 or a newer torch")
        patch_once()
        make_types_once()
    return torch.device("cpu")


def interprets():
    """Whether the interpreter can run a loop; that of Triton 3.6 cannot with NumPy 2.4."""
    import triton
    import triton.language as tl

    @triton.jit
    def last(out, count):
        for i in range(count):
            tl.store(out, i)

    out = torch.zeros(1, dtype=torch.int32)
    try:
        last[(1,)](out, 3)
    except triton.runtime.errors.InterpreterError:
        return False
    return out.item() == 2


def patch_once():
    """Let the interpreter patch Triton's language once for each module with functions that kernels call.

    It does so at every call of one, for a quarter of the time, and takes back only what a kernel's launch has patched.
    """
    from triton.runtime import interpreter

    patched = set()

    def call(self, *args, **kwargs):
        if self.fn.__module__ not in patched:
            patched.add(self.fn.__module__)
            interpreter._patch_lang(self.fn)
        return self.rewrite()(*args, **kwargs)

    if hasattr(interpreter, "_patch_lang"):  # a private name
        interpreter.InterpretedFunction.__call__ = call


def make_types_once():
    """Let the interpreter keep the types that it makes anew for every operation, for a fifth of the time."""
    from triton.language import block_type
    from triton.runtime import interpreter

    if not hasattr(interpreter, "_get_np_dtype"):  # a private name
        return
    find, numpy_types, blocks = interpreter._get_np_dtype, {}, {}

    def get_np_dtype(dtype):
        if dtype.name not in numpy_types:
            numpy_types[dtype.name] = find(dtype)
        return numpy_types[dtype.name]

    def get_block_ty(self, dtype, shape):
        key = dtype.name, *shape
        if key not in blocks:
            blocks[key] = block_type(dtype, shape)
        return blocks[key]

    def with_element_ty(block, dtype):
        key = block.name, dtype.name
        if key not in blocks:
            blocks[key] = block_type(dtype, block.shape)
        return blocks[key]

    interpreter._get_np_dtype, interpreter.InterpreterBuilder.get_block_ty = get_np_dtype, get_block_ty
    block_type.with_element_ty = with_element_ty


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
    for name in [name for name in vars(torch.nn.init) if re.fullmatch(r"[a-z]\w*_", name)]:
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *args, **kwargs: tensor)


@pytest.fixture
def registry(monkeypatch):
    """Whatever recipe a test registers is forgotten: other tests sweep over all that there are."""
    from comhe.train import recipe

    recipe.domains()
    copies = {name: dataclasses.replace(d, recipes=dict(d.recipes)) for name, d in recipe._domains.items()}
    monkeypatch.setattr(recipe, "_domains", copies)

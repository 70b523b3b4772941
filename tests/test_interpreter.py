"""What Triton's interpreter checks, it checks with shortcuts, too."""

import pytest
import torch

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")


@triton.jit
def multiply(out, left, right):
    tl.store(out, tl.load(left) * tl.load(right))


@triton.jit
def outer_sum(out, row: tl.constexpr, columns: tl.constexpr):
    column = tl.arange(0, columns)[None, :]
    sums = tl.arange(0, row)[:, None] + column
    tl.store(out + tl.arange(0, row)[:, None] * columns + column, sums * 2)


@triton.jit
def ragged_sum(out):
    tl.store(out + tl.arange(0, 4), tl.arange(0, 4) + tl.arange(0, 8))


@pytest.fixture
def interpreted(device):
    if device.type != "cpu":
        pytest.skip("kernels are compiled for a GPU here")


@pytest.mark.parametrize(("left", "right"), [(2**16, 2**15), (-(2**16), 2**16)])
def test_an_overflow_is_an_error(interpreted, left, right):
    out = torch.zeros(1, dtype=torch.int32)
    with pytest.raises(triton.runtime.errors.InterpreterError, match="int32 overflow"):
        multiply[(1,)](out, torch.tensor([left], dtype=torch.int32), torch.tensor([right], dtype=torch.int32))


def test_the_limits_are_no_overflow(interpreted):
    out = torch.zeros(1, dtype=torch.int32)
    multiply[(1,)](out, torch.tensor([-(2**16)], dtype=torch.int32), torch.tensor([2**15], dtype=torch.int32))
    assert out.item() == -(2**31)


def test_shapes_are_broadcast_again_and_again(interpreted):
    for rows, columns in ((4, 8), (8, 4), (4, 8)):
        out = torch.zeros(rows, columns, dtype=torch.int32)
        outer_sum[(1,)](out, rows, columns)
        assert torch.equal(out, 2 * (torch.arange(rows)[:, None] + torch.arange(columns)).int())


def test_shapes_that_do_not_fit_are_an_error_each_time(interpreted):
    for _ in range(2):
        with pytest.raises(triton.runtime.errors.InterpreterError, match="incompatible dimensions"):
            ragged_sum[(1,)](torch.zeros(8, dtype=torch.int32))

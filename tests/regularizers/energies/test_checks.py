import pytest
import torch

from comhe.errors import UsageError
from comhe.regularizers.energies.checks import autocast_disabled, check_neurons, float64, upcast


@pytest.mark.parametrize("w", [torch.ones(3, dtype=torch.float32), torch.ones(1, 3), torch.ones(3, 0)])
def test_wrong_shapes(w):
    with pytest.raises(UsageError, match=r"N >= 2"):
        check_neurons(w)


@pytest.mark.parametrize("w", [torch.ones(3, 2, dtype=torch.long), [[1.0, 2.0], [3.0, 4.0]]])
def test_wrong_types(w):
    with pytest.raises(TypeError, match="floating-point"):
        check_neurons(w)


def test_a_sparse_matrix_is_named():
    with pytest.raises(TypeError, match=r"not a sparse one \(torch.sparse_coo\): call to_dense\(\)"):
        check_neurons(torch.eye(3).to_sparse())


def test_precision():
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        assert upcast(torch.ones(2, 2, dtype=dtype)).dtype == torch.float32
    assert upcast(torch.ones(2, 2, dtype=torch.float64)).dtype == torch.float64


def test_autocast_is_off_inside():
    w = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16), autocast_disabled(w):
        assert (w @ w).dtype == torch.float32
    with autocast_disabled(torch.ones(2, 2, device="meta")):
        pass


def test_float64_is_exact_and_differentiable():
    w = torch.tensor([[0.1, 3.0]], requires_grad=True)
    assert float64(w).dtype == torch.float64
    assert float64(w)[0, 0].item() == w[0, 0].item()
    (grad,) = torch.autograd.grad(float64(w).sum(), w)
    assert grad.equal(torch.ones(1, 2))

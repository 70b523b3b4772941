"""The factorization for CUDA graphs against the library's, on the GPU or in Triton's interpreter."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from comhe.regularizers import create_regularizer, list_regularizers
from comhe.regularizers.energies import cholesky as by_choice
from comhe.regularizers.energies import sums

pytest.importorskip("triton", reason="there is no Triton for this platform")
kernels = pytest.importorskip("comhe.regularizers.energies.kernels.cholesky")

SOLVERS = ("cholesky", "triangular", "slogdet", "linalg_det", "lu_", "linalg_solve", "inv", "eig", "svd", "qr")


class NoSolvers(TorchDispatchMode):
    """An error where a solver of a library is called: inside a CUDA graph it may fail."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert not any(name.removeprefix("_").removeprefix("linalg_").startswith(s) for s in SOLVERS), name
        return func(*args, **kwargs or {})


@pytest.fixture
def chosen(monkeypatch, device):
    monkeypatch.setattr(by_choice, "runs_on", lambda device: True)
    monkeypatch.setattr(sums, "BRANCHING", ())


@pytest.mark.parametrize("n", [1, 32, 70])
def test_factors_and_solves(normal, device, n):
    w = normal(2, n, n + 3)
    a, b = (w @ w.mT).to(device), normal(2, 3, n, seed=1).to(device)
    factor = kernels.cholesky(a)
    torch.testing.assert_close(factor, torch.linalg.cholesky(a), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(kernels.solve(factor, b) @ factor, b, rtol=1e-9, atol=1e-11)


@pytest.mark.filterwarnings("ignore:invalid value")  # of NumPy, in the interpreter
def test_what_is_not_positive_definite_is_nan(device):
    a = torch.eye(3, dtype=torch.float64, device=device)[None].clone()
    a[0, 1, 1] = -1.0
    assert kernels.cholesky(a).isnan().any()


def test_a_determinant_and_its_gradient(normal, device, chosen):
    w = normal(2, 5, 7).to(device)
    a = (w @ w.mT).requires_grad_()
    value = by_choice.log_determinant(a)
    torch.testing.assert_close(value, torch.linalg.slogdet(a).logabsdet)
    (grad,) = torch.autograd.grad(value.sum(), a)
    torch.testing.assert_close(grad, torch.linalg.inv(a.detach()))


@pytest.mark.parametrize("name", [name for name in list_regularizers() if name != "none"])
def test_no_penalty_calls_a_solver_where_it_may_be_recorded(name, chosen, device):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 5), nn.Linear(5, 3)).to(device)
    options = {"dim": 4} if name in ("rp-comhe", "ap-comhe", "adv-comhe") else {}
    regularizer = create_regularizer(name, model, **options)
    regularizer.capturable = True
    with NoSolvers():
        value, gradients = regularizer.value_and_grad(list(model.parameters()), regularizer.draw())
    assert value.isfinite()
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


def test_the_span_of_neurons_is_the_same(normal, chosen, monkeypatch, device):
    """rp-comhe in the span of 40 neurons, more than a block of the factorization has."""
    found = []
    for runs in (False, True):
        monkeypatch.setattr(by_choice, "runs_on", lambda device, runs=runs: runs)
        torch.manual_seed(0)
        model = nn.Linear(50, 40).to(device)
        regularizer = create_regularizer("rp-comhe", nn.Sequential(model, nn.Linear(40, 3).to(device)), dim=4, count=2)
        value = regularizer()
        value.backward()
        found.append((value.detach(), model.weight.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=2e-6)

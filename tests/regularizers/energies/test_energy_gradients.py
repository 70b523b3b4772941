"""The analytic gradient: against finite differences, of second order, by tiles and chunks, and what it keeps."""

import importlib

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from comhe.regularizers import hyperspherical_energy

energy = importlib.import_module("comhe.regularizers.energies.energy")  # the modules, for their sizes
sums = importlib.import_module("comhe.regularizers.energies.sums")
POWERS = pytest.mark.parametrize("s", [0, 1, 2, 3.5])
SPACES = pytest.mark.parametrize("half_space", [False, True], ids=["full", "half"])
METRICS = pytest.mark.parametrize("geodesic", [False, True], ids=["chord", "angle"])
EPS = pytest.mark.parametrize("eps", [0.0, 1e-1])
SHAPES = pytest.mark.parametrize("shape", [(4, 6), (6, 4), (2, 4, 3)])


@POWERS
@SPACES
@METRICS
@EPS
@SHAPES
def test_first_and_second_derivatives(normal, s, half_space, geodesic, eps, shape):
    w = normal(*shape).requires_grad_()

    def function(w):
        return hyperspherical_energy(w, s, half_space, geodesic=geodesic, eps=eps)

    assert gradcheck(function, w, fast_mode=True)
    assert gradgradcheck(function, w, fast_mode=True)
    value = function(w)
    (again,) = torch.autograd.grad(value.sum(), w, create_graph=True)  # computed again, with a graph
    (first,) = torch.autograd.grad(function(w).sum(), w)  # kept by the forward
    torch.testing.assert_close(again, first, rtol=1e-11, atol=1e-13)


@SPACES
@pytest.mark.parametrize("shape", [(4, 6), (6, 4)])
def test_every_entry_of_the_derivatives(normal, half_space, shape):
    w = normal(*shape).requires_grad_()
    assert gradcheck(lambda w: hyperspherical_energy(w, 2, half_space, reduction="sum"), w)
    assert gradgradcheck(lambda w: hyperspherical_energy(w, 2, half_space), w)


def value_and_gradient(w, **options):
    leaf = w.clone().requires_grad_()
    value = hyperspherical_energy(leaf, **options)
    (grad,) = torch.autograd.grad((value * torch.arange(1, value.numel() + 1).view(value.shape)).sum(), leaf)
    torch.testing.assert_close(hyperspherical_energy(w, **options), value.detach(), rtol=1e-14, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(hyperspherical_energy(leaf, **options), value.detach(), rtol=1e-14, atol=0)
    return value.detach(), grad


@POWERS
@SPACES
@METRICS
@EPS
@pytest.mark.parametrize("shape", [(11, 4), (11, 14), (12, 5), (2, 11, 4)])
def test_blocks_equal_the_dense_matrix(monkeypatch, normal, s, half_space, geodesic, eps, shape):
    w, options = normal(*shape), {"s": s, "half_space": half_space, "geodesic": geodesic, "eps": eps}
    value, grad = value_and_gradient(w, **options)
    monkeypatch.setattr(energy, "KEEP", 4)
    monkeypatch.setattr(sums, "BLOCK", 16)
    blocks, blocks_grad = value_and_gradient(w, **options)
    torch.testing.assert_close(blocks, value, rtol=1e-13, atol=0)
    torch.testing.assert_close(blocks_grad, grad, rtol=1e-11, atol=1e-13)


@SPACES
@pytest.mark.parametrize("block", [1, 36, 72, 100])
@pytest.mark.parametrize("shape", [(5, 6, 4), (5, 6, 8), (2, 3, 6, 4), (0, 6, 4)])
def test_blocks_of_a_batch_equal_the_full_one(monkeypatch, normal, half_space, block, shape):
    w = normal(*shape)
    value, grad = value_and_gradient(w, half_space=half_space)
    monkeypatch.setattr(sums, "BLOCK", block)
    blocks, blocks_grad = value_and_gradient(w, half_space=half_space)
    torch.testing.assert_close(blocks, value, rtol=1e-14, atol=0)
    torch.testing.assert_close(blocks_grad, grad, rtol=1e-12, atol=1e-14)


def test_second_derivative_of_the_block_path(monkeypatch, normal):
    monkeypatch.setattr(energy, "KEEP", 3)
    w = normal(7, 4).requires_grad_()
    assert gradgradcheck(lambda w: hyperspherical_energy(w, half_space=True), w)


def kept(w, **options):
    """Shapes of what the forward keeps for the backward."""
    shapes = []

    def pack(tensor):
        shapes.append(tuple(tensor.shape))
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        hyperspherical_energy(w.requires_grad_(), **options)
    return shapes


@SPACES
@pytest.mark.parametrize("d", [5, 64])
def test_block_forward_keeps_no_square(monkeypatch, normal, half_space, d):
    monkeypatch.setattr(energy, "KEEP", 16)
    shapes = kept(normal(50, d), half_space=half_space)
    assert (50, d) in shapes
    assert all(torch.Size(shape).numel() <= 50 * d for shape in shapes), shapes
    assert (50, 50) not in shapes


def test_dense_forward_keeps_the_smaller_form(normal):
    assert (50, 50) not in kept(normal(50, 5))
    assert (5, 50) not in kept(normal(5, 50))[1:]


class Largest(TorchDispatchMode):
    """The most entries that any operation's result has."""

    entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.entries = max(self.entries, tensor.numel())
        return result


@SPACES
@pytest.mark.parametrize("geodesic", [False, True])
def test_blocks_bound_the_memory(monkeypatch, normal, half_space, geodesic):
    monkeypatch.setattr(sums, "BLOCK", 256)
    w = normal(100, 4).requires_grad_()
    with Largest() as largest:
        hyperspherical_energy(w, half_space=half_space, geodesic=geodesic).backward()
    assert 100 * 4 <= largest.entries <= 2 * 256  # cosines and slopes


def test_frozen_neurons_make_no_graph(normal):
    assert not hyperspherical_energy(normal(4, 3)).requires_grad
    with torch.no_grad():
        assert not hyperspherical_energy(normal(4, 3).requires_grad_()).requires_grad
    with torch.inference_mode():
        assert hyperspherical_energy(normal(4, 3)) > 0

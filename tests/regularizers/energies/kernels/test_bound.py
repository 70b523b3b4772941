"""Many layers' gradients bounded at once are those that are bounded one by one."""

import pytest
import torch
from torch.autograd import forward_ad

from comhe.regularizers import create_regularizer
from comhe.regularizers.bound import bound_gradient, bound_gradients

pytest.importorskip("triton", reason="there is no Triton for this platform")
bound = pytest.importorskip("comhe.regularizers.energies.kernels.bound")

MIN_NORM = 0.01
# Of infinite limits and squares too large, of which a GPU makes nothing; the interpreter is NumPy.
pytestmark = pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")


def layers(normal, device):
    """Of any shapes: several sets, more columns than a program reads at once; most with short neurons."""
    made = [normal(*shape, seed=i).float() for i, shape in enumerate(((9, 30), (2, 3, 5, 7), (3, 700), (12, 2)))]
    made[0][2] *= 1e-4
    made[1][1, 2, 4] = 0
    made[1][0, 1] *= 1e-3
    made[3] *= 0.02
    return [w.to(device).requires_grad_() for w in made]


def one_by_one(neurons, weights, scales):
    found = [bound_gradient(w, MIN_NORM, scale) for w, scale in zip(neurons, scales, strict=True)]
    return [w for w, _ in found], sum(weight * z.mean() for weight, (_, z) in zip(weights, found, strict=True))


def together(neurons, weights, scales):
    return bound_gradients(neurons, weights, MIN_NORM, scales)


def gradients(bounds, neurons, pushes, factor, **options):
    """Those of factor times the weighted means over the sets of <push, w>."""
    weights = torch.tensor([0.5, 2.0, 1.0, 3.0], device=neurons[0].device)
    rows, zero = bounds(neurons, weights, [1.0, 2.0, 0.1, 5.0])
    values = [(w * push).sum((-2, -1)).mean() for w, push in zip(rows, pushes, strict=True)]
    loss = factor * (sum(weight * value for weight, value in zip(weights, values, strict=True)) + zero)
    return torch.autograd.grad(loss, neurons, **options)


@pytest.mark.parametrize(("size", "factor"), [(1e6, 1.0), (3.0, -1e-3), (1e-3, 1.0), (1e6, 0.0)])
def test_gradients_of_a_ragged_batch(normal, device, size, factor):
    neurons = layers(normal, device)
    pushes = [size * normal(*w.shape, seed=9).to(w) for w in neurons]
    expected = gradients(one_by_one, neurons, pushes, factor)
    for found, grad in zip(gradients(together, neurons, pushes, factor), expected, strict=True):
        torch.testing.assert_close(found, grad, rtol=1e-4, atol=0)  # 1 - min / h^2 cancels


def test_a_set_of_many_neurons(normal, device):
    """Its lengths are read in two parts."""
    w = normal(1030, 2).float().to(device)
    w[1025:] *= 1e-3
    limits = bound.gradient_limits([w[None]], [1.0], MIN_NORM, 0.25, 0.01)
    lengths = w.norm(dim=-1)
    lack = 1 - lengths.min() ** 2 / (0.25 * w.square().sum(-1).mean()).clamp_min(0.01)
    torch.testing.assert_close(limits, lengths.clamp_min(MIN_NORM) / lack)


def test_where_no_neuron_is_short_nothing_changes(normal, device):
    w = (1 + normal(20, 30).abs().float()).to(device).requires_grad_()
    push = 1e30 * normal(20, 30, seed=1).to(w)
    (rows,), _ = bound_gradients([w], torch.ones(1, device=device), MIN_NORM, [1.0])
    assert torch.equal(torch.autograd.grad((rows * push).sum(), w)[0], push)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_gradient_that_is_not_finite_stays_so(normal, device, bad):
    neurons = layers(normal, device)
    pushes = [normal(*w.shape, seed=9).to(w) for w in neurons]
    pushes[0][4, 3] = bad
    expected = gradients(one_by_one, neurons, pushes, 1.0)
    for found, grad in zip(gradients(together, neurons, pushes, 1.0), expected, strict=True):
        torch.testing.assert_close(found, grad, rtol=1e-4, atol=0, equal_nan=True)
    neurons = [w.detach().clone() for w in neurons]
    neurons[0][1, 1] = bad
    found = gradients(together, [w.requires_grad_() for w in neurons], pushes, 1.0)
    assert not found[0][4].isfinite().all()


def test_gradients_of_gradients(normal, device):
    neurons = layers(normal, device)
    pushes = [5 * normal(*w.shape, seed=9).to(w) for w in neurons]
    pushes = [push.requires_grad_() for push in pushes]

    def seconds(bounds):
        found = gradients(bounds, neurons, pushes, 1.0, create_graph=True)
        return torch.autograd.grad(sum(grad.square().sum() for grad in found), pushes)

    for found, grad in zip(seconds(together), seconds(one_by_one), strict=True):
        torch.testing.assert_close(found, grad, rtol=1e-4, atol=1e-4)


def test_forward_mode(normal, device):
    neurons = [w.detach() for w in layers(normal, device)]
    change = torch.ones_like(neurons[0])
    with forward_ad.dual_level():
        first, *others = neurons
        rows, zero = together([forward_ad.make_dual(first, change), *others], torch.ones(4, device=device), [1.0] * 4)
        assert torch.equal(forward_ad.unpack_dual(rows[0]).tangent, change)
        assert forward_ad.unpack_dual(zero).tangent == 0


@pytest.mark.parametrize("name", ["hs-mhe", "rp-comhe", "mma"])
def test_a_regularizer_bounds_its_layers_so(normal, device, monkeypatch, name):
    from comhe.regularizers import regularizer as module

    model = torch.nn.Sequential(torch.nn.Linear(60, 24), torch.nn.ReLU(), torch.nn.Linear(24, 12)).to(device)
    with torch.no_grad():
        model[0].weight[5:] = 0
    found = []
    for is_together in (True, False):
        monkeypatch.setattr(module, "bounds_together", lambda *_, known=is_together: known)
        model.zero_grad()
        (3 * create_regularizer(name, model, weight=2.0)()).backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-9)

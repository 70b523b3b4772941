"""Edge convolution against the layer on all pairs."""

import copy

import pytest
import torch
from torch.func import functional_call
from torch.nn import functional as F

from comhe.zoo.points import EdgeConv

POINTS, NEIGHBORS = 9, 4


def build(dtype=torch.float64):
    torch.manual_seed(0)
    conv = EdgeConv(3, 5).to(dtype)
    with torch.no_grad():
        conv.norm.weight.copy_(torch.tensor([1.0, -0.7, 0.0, 0.3, 2.0]))
        conv.norm.bias.normal_()
    return conv


def inputs(dtype=torch.float64):
    """Two clouds with duplicates among points and neighbors, and points that are nobody's neighbor."""
    g = torch.Generator().manual_seed(1)
    x = torch.randn(2, POINTS, 3, generator=g, dtype=dtype)
    x[:, 1] = x[:, 0]
    index = torch.randint(POINTS - 2, (2, POINTS, NEIGHBORS), generator=g)
    index[:, :, 3] = index[:, :, 1]
    return x.requires_grad_(), index


def reference(conv, x, index):
    neighbors = torch.stack([cloud[i] for cloud, i in zip(x, index, strict=True)])
    own = x[:, :, None].expand_as(neighbors)
    y = conv.linear(torch.cat((neighbors - own, own), -1))
    z = conv.norm(y.flatten(0, 2)).view_as(y)
    return F.leaky_relu(z.max(2)[0], conv.slope)


@pytest.mark.usefixtures("blocks")
def test_training_is_that_of_the_layer_on_pairs():
    ours, (x, index) = build(), inputs()
    theirs = copy.deepcopy(ours)
    a, b = ours(x, index), reference(theirs, x, index)
    torch.testing.assert_close(a, b)
    v = torch.randn(a.shape, generator=torch.Generator().manual_seed(2), dtype=a.dtype)
    got = torch.autograd.grad(a, [x, *ours.parameters()], v)
    expected = torch.autograd.grad(b, [x, *theirs.parameters()], v)
    for p, q in zip(got, expected, strict=True):
        torch.testing.assert_close(p, q, atol=1e-11, rtol=1e-9)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, msg=name)


@pytest.mark.usefixtures("blocks")
def test_evaluation_is_that_of_the_layer_on_pairs():
    conv, (x, index) = build(), inputs()
    conv(x, index)
    conv.eval()
    torch.testing.assert_close(conv(x, index), reference(conv, x, index))


def test_gradients_are_the_limits_of_differences():
    conv = build()
    torch.nn.init.constant_(conv.norm.weight, -0.8)
    g = torch.Generator().manual_seed(3)
    x = torch.randn(1, 6, 3, generator=g, dtype=torch.float64).requires_grad_()
    index = torch.stack([torch.randperm(6, generator=g)[:3] for _ in range(6)])[None]
    names, parameters = zip(*conv.named_parameters(), strict=True)

    def function(x, *parameters):
        return functional_call(conv, dict(zip(names, parameters, strict=True)), (x, index))

    assert torch.autograd.gradcheck(function, (x, *parameters))


def test_float32_is_safe_where_features_lie_far_from_zero():
    conv = build(torch.float32)
    torch.nn.init.ones_(conv.norm.weight)
    exact = copy.deepcopy(conv).double()
    g = torch.Generator().manual_seed(4)
    x, index = torch.randn(2, 64, 3, generator=g) + 300, torch.randint(64, (2, 64, 8), generator=g)
    torch.testing.assert_close(conv(x, index).double(), reference(exact, x.double(), index), atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(conv.norm.running_var.double(), exact.norm.running_var, rtol=1e-4, atol=1e-6)


def test_pairs_never_exist(largest, monkeypatch):
    monkeypatch.setattr("comhe.zoo.points.chain.BLOCK", 512)
    conv, x = EdgeConv(3, 16), torch.randn(2, 50, 3, requires_grad=True)
    index = torch.randint(50, (2, 50, 20))
    with largest:
        conv(x, index).sum().backward()
    assert largest.numbers == 2 * 50 * 20  # the indices, and not 2 * 50 * 20 * 16

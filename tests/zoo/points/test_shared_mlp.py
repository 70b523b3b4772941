"""The fused shared MLP against its layers in torch: values, gradients and statistics."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from comhe.zoo.points import Head, SharedMLP
from comhe.zoo.points.pooling import MaxLayerGradient

GROUPS, ROWS = 6, 4


def build(widths, pool=True, slope=0.0, dtype=torch.float64, ties=False):
    """Gammas of both signs; with ties, a zero in every layer, where all rows are equal."""
    torch.manual_seed(0)
    mlp = SharedMLP(widths, pool, slope).to(dtype)
    with torch.no_grad():
        for norm in mlp.norms:
            norm.weight.normal_()
            norm.weight[1] *= not ties
            norm.bias.normal_()
    return mlp


def inputs(mlp, features=0, dtype=torch.float64, ties=False):
    """x [GROUPS, ROWS, C], with ``features`` columns from a table; with ties, rows that occur twice in a group."""
    g = torch.Generator().manual_seed(1)
    width = mlp.linears[0].in_features - features
    x = torch.randn(GROUPS, ROWS, width, generator=g, dtype=dtype)
    if ties:
        x[:, 2] = x[:, 0]
    if not features:
        return (x.requires_grad_(),)
    table = torch.randn(5, features, generator=g, dtype=dtype)
    index = torch.randint(5, (GROUPS, ROWS), generator=g)
    if ties:
        index[:, 2] = index[:, 0]
    return x.requires_grad_(), table.requires_grad_(), index


def reference(mlp, x, features=None, index=None):
    """What a SharedMLP says it is; the maximum has an index, and hence goes to the first of equals."""
    if features is not None:
        x = torch.cat((x, features[index]), -1)
    for i, (linear, norm) in enumerate(zip(mlp.linears, mlp.norms, strict=True)):
        y = linear(x)
        y = norm(y.flatten(0, 1)).view_as(y)
        last = i == len(mlp.norms) - 1
        x = y.max(1)[0] if last and mlp.pool else y
        x = F.leaky_relu(x, mlp.slope if last and mlp.pool else 0.0)
    return x


CASES = {
    "three layers": ([3, 5, 7, 6], True, 0.0, 0),
    "equal widths": ([3, 6, 6, 6], True, 0.0, 0),
    "no activation": ([3, 6, 5], True, 1.0, 0),
    "leaky": ([3, 6, 5], True, 0.2, 0),
    "wide input": ([20, 6, 5], True, 0.0, 0),
    "features": ([7, 6, 6, 5], True, 0.0, 4),
    "rows": ([3, 6, 5], False, 0.0, 0),
    "one layer of rows": ([3, 6], False, 0.0, 0),
    "rows with features": ([7, 6, 5], False, 0.0, 4),
}


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize("case", CASES)
def test_training_is_that_of_its_layers(case, ties):
    widths, pool, slope, features = CASES[case]
    ours = build(widths, pool, slope, ties=ties)
    theirs = copy.deepcopy(ours)
    arguments = inputs(ours, features, ties=ties)
    a, b = ours(*arguments), reference(theirs, *arguments)
    torch.testing.assert_close(a, b)
    v = torch.randn(a.shape, generator=torch.Generator().manual_seed(2), dtype=a.dtype)
    leaves = [t for t in arguments if t.requires_grad]
    first = torch.tensor([1.0, 0.0, 0.0], dtype=a.dtype)[:, None]
    got = torch.autograd.grad(a, [*leaves, *ours.parameters()], v)
    expected = torch.autograd.grad(b, [*leaves, *theirs.parameters()], v)
    if ties:  # which of two equal rows is the larger one in the last digit depends on the processor
        got, expected = ((each[0][:, [0, 1, 3]] + each[0][:, [2, 2, 2]] * first, *each[1:]) for each in (got, expected))
    for x, y in zip(got, expected, strict=True):
        torch.testing.assert_close(x, y, atol=1e-11, rtol=1e-9)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, msg=name)


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][1]])
def test_training_with_many_groups_on_a_gpu(case, monkeypatch):
    monkeypatch.setattr(MaxLayerGradient, "_add_sparse", MaxLayerGradient._add_dense)
    test_training_is_that_of_its_layers(case, True)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("case", CASES)
def test_evaluation_is_that_of_its_layers(case):
    widths, pool, slope, features = CASES[case]
    mlp = build(widths, pool, slope)
    arguments = inputs(mlp, features)
    mlp(*arguments)  # moves the running statistics
    mlp.eval()
    a, b = mlp(*arguments), reference(mlp, *arguments)
    torch.testing.assert_close(a, b)
    leaves = [*(t for t in arguments if t.requires_grad), *mlp.parameters()]
    for x, y in zip(*(torch.autograd.grad(out.square().sum(), leaves) for out in (a, b)), strict=True):
        torch.testing.assert_close(x, y, atol=1e-10, rtol=1e-9)


@pytest.mark.parametrize("case", ["three layers", "features", "rows"])
def test_gradients_are_the_limits_of_differences(case):
    widths, pool, slope, features = CASES[case]
    mlp = build(widths, pool, slope)
    arguments = inputs(mlp, features)
    names, parameters = zip(*mlp.named_parameters(), strict=True)

    def function(*tensors):
        leaves = [*tensors[len(parameters) :], *arguments[-1:]] if features else tensors[len(parameters) :]
        return functional_call(mlp, dict(zip(names, tensors, strict=False)), tuple(leaves))

    leaves = tuple(t for t in arguments if t.requires_grad)
    assert torch.autograd.gradcheck(function, (*parameters, *leaves))


@pytest.mark.parametrize(("offset", "bias"), [(0.0, 0.0), (1e3, 0.0), (0.0, 30.0)])
def test_float32_is_safe_far_from_zero(offset, bias):
    """Inputs or hidden activations with a mean of a thousand deviations: nothing is less exact than in the layers."""
    torch.manual_seed(0)
    mlp = SharedMLP([3, 16, 16])
    if bias:
        nn.init.constant_(mlp.norms[0].bias, bias)
        nn.init.constant_(mlp.norms[0].weight, 0.03)
    layers, exact = copy.deepcopy(mlp), copy.deepcopy(mlp).double()
    x, v = torch.randn(8, 64, 3) + offset, torch.randn(8, 16)
    outputs = mlp(x), reference(layers, x), reference(exact, x.double())
    for out in outputs:
        (out * v).sum().backward()
    quantities = [outputs]
    for name in dict(mlp.named_parameters()):
        quantities.append([m.get_parameter(name).grad for m in (mlp, layers, exact)])
    for i in range(2):
        quantities.append([m.norms[i].running_var for m in (mlp, layers, exact)])
    for ours, theirs, true in quantities:
        assert (ours - true).norm() <= 2 * (theirs - true).norm() + 1e-6 * true.norm()


def test_autocast_changes_nothing():
    mlp = build([3, 6, 5], dtype=torch.float32)
    (x,) = inputs(mlp, dtype=torch.float32)
    expected = mlp(x)
    expected.square().sum().backward()
    gradients = [p.grad.clone() for p in mlp.parameters()]
    mlp.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        out = mlp(x)
        out.square().sum().backward()
    assert out.equal(expected)
    assert all(p.grad.equal(g) for p, g in zip(mlp.parameters(), gradients, strict=True))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"at least 2 layers, not \[3, 5\]"):
        SharedMLP([3, 5])
    mlp = SharedMLP([3, 5, 5])
    with pytest.raises(ValueError, match="the input has 4 columns, the first layer takes 3"):
        mlp(torch.zeros(2, 2, 4))
    with pytest.raises(ValueError, match="at least two rows in training, not 1"):
        mlp(torch.zeros(1, 1, 3))
    mlp.norms[0].eval()
    with pytest.raises(ValueError, match="all in training or all in evaluation"):
        mlp(torch.zeros(2, 2, 3))


def test_frozen_batch_norms_use_their_running_statistics():
    mlp = build([3, 6, 5])
    (x,) = inputs(mlp)
    expected = copy.deepcopy(mlp).eval()(x)
    mlp.norms.eval()
    assert mlp.training
    torch.testing.assert_close(mlp(x), expected)


def test_head_is_a_classifier_in_torch():
    torch.manual_seed(0)
    head = Head([5, 7, 6], 3, dropout=(0.0, 0.5), slope=0.2)
    layers = [head.linears[0], head.norms[0], nn.LeakyReLU(0.2), head.linears[1], head.norms[1], nn.LeakyReLU(0.2)]
    x = torch.randn(10, 5)
    head.eval()
    assert head(x).equal(nn.Sequential(*layers, head.output)(x))
    head.train()
    torch.manual_seed(3)
    a = head(x)
    torch.manual_seed(3)
    torch.testing.assert_close(a, nn.Sequential(*layers, nn.Dropout(0.5), head.output)(x))
    assert [name for name, _ in head.named_parameters()][-2:] == ["output.weight", "output.bias"]
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\), not 1"):
        Head([5, 7], 3, dropout=(1,))

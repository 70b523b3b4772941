import itertools
import math

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from comhe.regularizers import create_regularizer, ocnn, register_neurons


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("shape", [(3, 2, 3), (2, 3, 4)])
def test_the_operator_on_a_line(normal, shape, stride):
    """Rows of the Toeplitz matrix: filter o at position t, against those of all filters at position 0."""
    kernel = normal(*shape)
    size = shape[2]
    total = 0.0
    for a, b in itertools.product(range(shape[0]), repeat=2):
        for shift in range(-(size - 1) // stride * stride - stride, size + stride):
            if shift % stride or abs(shift) >= size:
                continue
            overlap = sum(
                kernel[a, i, x].item() * kernel[b, i, x + shift].item()
                for i in range(shape[1])
                for x in range(size)
                if 0 <= x + shift < size
            )
            total += (overlap - (a == b and shift == 0)) ** 2
    assert ocnn(kernel, stride).item() == pytest.approx(math.sqrt(total), rel=1e-12)
    assert gradcheck(lambda kernel: ocnn(kernel, stride), kernel.requires_grad_())


def test_one_by_one_kernels_are_the_gram_matrix(normal):
    kernel = normal(3, 5, 1, 1)
    flat = kernel.flatten(1)
    assert ocnn(kernel).item() == pytest.approx((flat @ flat.mT - torch.eye(3)).norm().item(), rel=1e-12)


def test_layers_use_their_stride_and_others_their_gram_matrix(normal):
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 4, 3, groups=2), nn.Linear(6, 5)).double()
    rows = create_regularizer("ocnn", model).report().layers
    assert rows[0].penalty == pytest.approx(ocnn(model[0].weight, stride=2).item())
    gram = model[2].weight @ model[2].weight.mT - torch.eye(5)
    assert rows[2].penalty == pytest.approx(gram.norm().item())


def test_fused_projections_are_three_operators_and_a_view_of_ones_own_has_a_gram_matrix():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.num_heads, self.qkv, self.proj = 2, nn.Conv2d(6, 18, 3), nn.Conv2d(6, 6, 1)

    class Columns(nn.Conv2d):
        pass

    @register_neurons(Columns)
    def view(module):
        return module.weight.flatten(2).mT

    attention, own = Attention(), Columns(3, 4, (1, 2))
    row, _, other = create_regularizer("ocnn", nn.Sequential(attention, own), output=None).report().layers
    parts = torch.stack([ocnn(kernel) for kernel in attention.qkv.weight.unflatten(0, (3, 6))])
    assert row.penalty == pytest.approx(parts.norm().item(), rel=1e-6)
    grams = own.weight.flatten(2) @ own.weight.flatten(2).mT  # the smaller one of each set
    smaller = torch.stack([g if len(g) <= 2 else m for g, m in zip(grams, view(own) @ view(own).mT, strict=True)])
    assert other.penalty == pytest.approx((smaller - torch.eye(2)).norm().item(), rel=1e-6)


@pytest.mark.parametrize(("stride", "dilation"), [(1, 2), (2, 2), (2, 3), (4, 2), (6, 4)])
def test_a_dilated_convolution_is_that_of_the_filter_with_its_zeros_written_out(normal, stride, dilation):
    layer = nn.Conv2d(2, 3, 3, stride=stride, dilation=dilation).double()
    layer.weight.data = normal(3, 2, 3, 3)
    size = 2 * dilation + 1
    dilated = torch.zeros(3, 2, size, size, dtype=torch.float64)
    dilated[:, :, ::dilation, ::dilation] = layer.weight.data
    regularizer = create_regularizer("ocnn", nn.Sequential(layer), weight=1.0, output_weight=1.0)
    assert regularizer().item() == pytest.approx(ocnn(dilated, stride).item(), rel=1e-12)


def test_an_adapted_convolution_is_one(normal):
    class Adapter(nn.Module):  # as peft's: the layer that it adapts is its base_layer
        def __init__(self, base_layer):
            super().__init__()
            self.base_layer = base_layer

    register_neurons(Adapter)(lambda module: module.base_layer.weight.flatten(1))
    convolution = nn.Conv2d(3, 4, 3)
    expected = create_regularizer("ocnn", convolution)()
    torch.testing.assert_close(create_regularizer("ocnn", Adapter(convolution))(), expected)

"""The network of airbench94 and its whitening layer."""

import torch
from torch.nn import functional as F

from comhe.zoo import create_model
from comhe.zoo.images.airbench import Whitening

from .conftest import count, meta


def test_whitened_patches_are_uncorrelated_and_of_unit_power():
    x = torch.randn(4, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    x = F.avg_pool2d(x, 3, 1) + 0.5 * x.mean(1, keepdim=True)[:, :, 1:-1, 1:-1]  # neighbors and channels correlate
    layer = Whitening(3, eps=0.0)
    layer.fit(x)
    outputs = F.conv2d(x, layer.weight)[:, :12].transpose(0, 1).flatten(1).double()
    moments = outputs @ outputs.T / outputs.shape[1]
    assert torch.allclose(moments, torch.eye(12, dtype=torch.float64), atol=1e-4)
    assert torch.equal(layer.weight[12:], -layer.weight[:12])


def test_filters_depend_on_the_images_alone():
    x = torch.rand(8, 1, 9, 9, generator=torch.Generator().manual_seed(1))
    one, other = Whitening(1), Whitening(1)
    one.fit(x)
    other.fit(x.flip(0))
    assert torch.allclose(one.weight, other.weight, atol=1e-5)


def test_the_network_is_the_published_one():
    model = meta("airbench94")
    # Biases of the whitening; convolutions; shifts and scales of batch norms; a head without bias.
    convolutions = 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256)
    assert count(model) == 24 + convolutions + 2 * 2 * (64 + 256 + 256) + 256 * 10
    assert model.whitening.weight.shape == (24, 3, 2, 2)


def test_convolutions_begin_as_the_identity_on_their_first_filters():
    model = create_model("airbench94")
    x = torch.randn(2, 24, 8, 8)
    assert torch.equal(model.features[1](x)[:, :24], x)

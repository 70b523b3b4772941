"""The image networks: their published shapes, and that they learn through every parameter."""

import math

import pytest
import torch
from torch import nn

from comhe.zoo import create_model, list_models

PER_BLOCK = {"cnn6": 2, "cnn9": 3, "cnn15": 5}


@pytest.mark.parametrize("name", list_models(domain="images"))
def test_forward_gradient_and_head(name):
    torch.manual_seed(0)
    model = create_model(name, num_classes=7, in_channels=1)
    logits = model(torch.randn(2, 1, 32, 32))
    assert logits.shape == (2, 7)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    other = create_model(name, num_classes=7, in_channels=1)
    other.load_state_dict(model.state_dict())
    x = torch.randn(2, 1, 32, 32)
    assert other.eval()(x).equal(model.eval()(x))


@pytest.mark.parametrize("name", PER_BLOCK)
def test_the_papers_networks(name):
    model = create_model(name)
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    depth = PER_BLOCK[name]
    widths = [64] * depth + [128] * depth + [256] * depth
    assert [conv.out_channels for conv in convolutions] == [*widths, 256, 100]
    assert [conv.kernel_size[0] for conv in convolutions] == [3] * (3 * depth) + [4, 1]
    inputs = [3, *widths, 256]
    weights = sum(o * i * k * k for o, i, k in zip([*widths, 256, 100], inputs, [3] * 3 * depth + [4, 1], strict=True))
    assert sum(p.numel() for p in model.parameters()) == weights + 2 * sum(widths)
    assert all(conv.bias is None for conv in convolutions)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 3 * depth
    assert all(norm.eps == 1e-3 and norm.momentum == pytest.approx(1 - 0.999) for norm in norms)
    for conv in convolutions:
        assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / conv.weight[0].numel()), rel=0.15)

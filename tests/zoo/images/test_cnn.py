"""The networks of the paper."""

import math

import pytest
import torch
from torch import nn

from comhe.zoo import create_model

PER_BLOCK = {"cnn6": 2, "cnn9": 3, "cnn15": 5}


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


def test_a_larger_image_is_classified_by_the_mean_over_positions():
    model = create_model("cnn6", num_classes=7).eval()
    x = torch.randn(2, 3, 40, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # the features are 5 x 4: the 4 x 4 filters of fc1 have two positions
        features = model.features(x)
        positions = [model.fc2(model.fc1(features[:, :, i : i + 4])).flatten(1) for i in range(2)]
        torch.testing.assert_close(model(x), torch.stack(positions).mean(0))

"""VGG-16 against torchvision's."""

import torch
import torchvision
from torch import nn

from .conftest import count, meta


def test_vgg_has_torchvisions_features_without_the_biases():
    model = meta("vgg16_bn", num_classes=10)
    with torch.device("meta"):
        theirs = torchvision.models.vgg16_bn().features
    biases = {f"{key}.bias" for key, m in theirs.named_modules() if isinstance(m, nn.Conv2d)}
    expected = {key: value.shape for key, value in theirs.state_dict().items() if key not in biases}
    assert {key: value.shape for key, value in model.features.state_dict().items()} == expected
    assert count(model) == sum(p.numel() for p in theirs.parameters()) - 4224 + 5130 == 14_724_042

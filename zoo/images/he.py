"""He's initialization, which the residual networks of this folder and VGG start from."""

from __future__ import annotations

from torch import nn


def he_init(model: nn.Module) -> None:
    """Draw convolutions from N(0, 2 / fan-out) and linear layers as torch does; reset batch norms, zero the biases.

    Source: He et al., Delving Deep into Rectifiers, ICCV 2015, eq. 14; github.com/facebookarchive/fb.resnet.torch.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            module.reset_parameters()
            nn.init.zeros_(module.bias)

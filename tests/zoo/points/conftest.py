"""What the tests of point networks share."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from comhe.zoo import create_model
from comhe.zoo.points import PointNet2, Scale, chain


class Largest(TorchDispatchMode):
    """Notes the number of entries of the largest tensor that any operation returns."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return result


@pytest.fixture
def largest():
    return Largest()


@pytest.fixture(params=["one block", "many blocks"])
def blocks(request, monkeypatch):
    """Both how small inputs and how large ones are handled."""
    if request.param == "many blocks":
        monkeypatch.setattr(chain, "BLOCK", 64)


def cloud(batch=3, size=40, channels=3, seed=0):
    """Points on the unit sphere, where balls of 0.2 hold few of them."""
    x = torch.randn(batch, size, channels, generator=torch.Generator().manual_seed(seed))
    return torch.cat((F.normalize(x[..., :3], dim=-1), x[..., 3:]), -1)


def small(name, **options):
    """The model, or for PointNet++ the same with fewer centers and points to a ball."""
    torch.manual_seed(0)
    options = {"num_classes": 5, "in_channels": 3, "dropout": 0.0} | options
    if name.startswith("pointnet2"):
        scales = [Scale(0.5, 6, (8, 8, 12))], [Scale(0.9, 5, (8, 12, 12))]
        if name.endswith("msg"):
            scales = [scales[0][0], Scale(0.7, 8, (6, 8, 10))], [scales[1][0], Scale(1.2, 6, (10, 8, 8))]
        return PointNet2(options["in_channels"], options["num_classes"], (12, 6), scales, options["dropout"])
    return create_model(name, **options)


def randomized(model):
    """The model with transforms that are not the identity, gammas of both signs and running statistics of data."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d)]
    with torch.no_grad():
        for name, module in model.named_modules():
            if name.endswith("transform.head.output"):
                nn.init.normal_(module.weight, std=0.02)
        for norm in norms:
            norm.weight.uniform_(-0.5, 2)
            norm.bias.uniform_(-0.3, 0.3)
            norm.momentum = 1.0
        model.train()(cloud(8, channels=model.in_channels, seed=9))
        for norm in norms:
            norm.momentum = 0.1
    return model

"""What several tests of image networks use."""

import torch
from torch import nn

from comhe.zoo import create_model


def meta(name: str, **kwargs) -> nn.Module:
    with torch.device("meta"):
        return create_model(name, **kwargs)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def norms(model: nn.Module) -> int:
    return sum(p.numel() for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters())


def randomize(module: nn.Module, seed: int = 0) -> nn.Module:
    """Batch norms that do something, in evaluation as well."""
    g = torch.Generator().manual_seed(seed)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            for tensor in (m.weight.data, m.running_var):
                tensor.uniform_(0.5, 1.5, generator=g)
            for tensor in (m.bias.data, m.running_mean):
                tensor.uniform_(-0.5, 0.5, generator=g)
    return module.double()


def inputs(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

"""What the tests of point networks share."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from comhe.zoo.points import chain


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

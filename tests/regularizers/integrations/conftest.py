"""A small training loop, written out, which the callbacks have to reproduce."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from comhe.regularizers import create_regularizer

DATA = [(torch.randn(4, 50, generator=torch.Generator().manual_seed(i)), torch.arange(4) % 3) for i in range(6)]
OPTIONS = {"weight": 2.0, "output_weight": 3.0, "dim": 8}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(50, 12), nn.Tanh(), nn.Linear(12, 3))


def written_out(accumulate, epochs=2, clip=0.0):
    """SGD with the penalty in the loss, once per step, and in the gradient that is clipped."""
    model = network()
    regularizer = create_regularizer("rp-comhe", model, **OPTIONS)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(epochs):
        for first in range(0, len(DATA), accumulate):
            batches = DATA[first : first + accumulate]
            loss = sum(nn.functional.cross_entropy(model(x), y) for x, y in batches) / accumulate
            optimizer.zero_grad()
            (loss + regularizer()).backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
    return model


def same(model, other):
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.fixture
def loop():
    return SimpleNamespace(data=DATA, options=OPTIONS, network=network, written_out=written_out, same=same)

"""What a CUDA graph needs of a regularizer: no number of the host is read between `draw` and the end of `total`."""

import pytest
import torch
from torch import nn

from comhe.regularizers import create_regularizer, list_regularizers
from comhe.regularizers.energies import sums

from ..train.recorded import FakeRecorder


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch):
    """On the CPU, what is computed may depend on the neurons; here it is what a GPU computes."""
    monkeypatch.setattr(sums, "BRANCHING", ())


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(8, 10, 3, groups=2), nn.Flatten(), nn.Linear(24, 12), nn.Linear(12, 5))


SMALL = {"rp-comhe": {"dim": 6, "count": 2}, "ap-comhe": {"dim": 6}, "adv-comhe": {"dim": 6, "steps": 2}}
VARIANTS = [(name, SMALL.get(name, {})) for name in list_regularizers()] + [
    ("rp-comhe", {"dim": 6, "count": 2, "redraw": 2}),
    ("rp-comhe", {"dim": 6, "count": 2, "span": True}),
    ("rp-comhe", {"dim": 6, "count": 2, "distribution": "ternary", "shared": False}),
    ("ap-comhe", {"dim": 6, "mode": "unrolled", "rate": lambda step: 0.1 / (step + 1)}),
    ("adv-comhe", {"dim": 6, "steps": 2, "mode": "alternating", "rate": lambda step: 0.1 / (step + 1)}),
    ("hs-mhe", {"sample": 4}),
    ("group-comhe", {"groups": 2, "partition": "random"}),
    ("hs-mhe", {"weight": lambda step: step / 2, "output_weight": 0.0}),
    ("so", {"weight": lambda step: step / 2}),
]


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=[f"{name}-{i}" for i, (name, _) in enumerate(VARIANTS)])
def test_a_recorded_step_is_replayed_for_other_steps(name, options):
    """The operations on tensors of one step, played again on the same memory, are those of every later step."""
    model, twin = network(), network()
    regularizer = create_regularizer(name, model, **options)
    regularizer.capturable = True
    expected = create_regularizer(name, twin, **options)
    expected.capturable = True
    ordinary = create_regularizer(name, network(), **options)

    def train():  # in place, as optimizers do
        with torch.no_grad():
            for network in (model, twin):
                for i, parameter in enumerate(network.parameters()):
                    parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)))

    def step(parameters, total):
        return total, *torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)

    own, other = list(model.parameters()), list(twin.parameters())
    draws = regularizer.draw()
    step(own, regularizer.total(draws) + 0 * own[0].sum())  # the first step allocates the tensors that stay
    regularizer.step += 1
    draws = regularizer.draw()
    replay, values = FakeRecorder().record(lambda: step(own, regularizer.total(draws) + 0 * own[0].sum()))
    replay()  # the recording has computed this step
    regularizer.step += 1
    torch.testing.assert_close(expected(), ordinary(), rtol=1e-3, atol=1e-6)
    expected()
    for _ in range(2):
        train()
        regularizer.draw()
        replay()
        regularizer.step += 1
        for value, wanted in zip(values, step(other, expected() + 0 * other[0].sum()), strict=True):
            torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-6)

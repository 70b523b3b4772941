"""The options that all energy regularizers share."""

import math

import pytest
import torch
from torch import nn

from comhe.regularizers import create_regularizer, hyperspherical_energy
from comhe.regularizers.energies.potential import Potential


def test_sampling_estimates_the_mean():
    model = nn.Sequential(nn.Linear(9, 40), nn.Linear(40, 2)).double()
    full = hyperspherical_energy(model[0].weight).item()
    regularizer = create_regularizer("mhe", model, sample=15, output_weight=0.0)
    values = torch.tensor([regularizer().item() for _ in range(400)])
    assert abs(values.mean() - full) < 4 * values.std() / 20
    assert values.unique().numel() > 390


def test_a_sample_is_a_function_of_seed_and_step():
    model = nn.Sequential(nn.Linear(9, 40), nn.Linear(40, 2))
    first, second, other = (create_regularizer("mhe", model, sample=15, seed=seed) for seed in (3, 3, 4))
    values = [first().item() for _ in range(3)]
    assert [second().item() for _ in range(3)] == values
    assert [other().item() for _ in range(3)] != values


def test_sum_is_the_mean_times_the_pairs():
    model = nn.Linear(9, 5)
    mean, total = (create_regularizer("mhe", model, reduction=reduction)().item() for reduction in ("mean", "sum"))
    assert total == pytest.approx(20 * mean)
    with pytest.raises(ValueError, match="sample=4 has fewer pairs"):
        create_regularizer("mhe", model, reduction="sum", sample=4)


@pytest.mark.parametrize(
    "options",
    [
        {"min_norm": -1},
        {"eps": -1},
        {"sample": 1},
        {"sample": 2.5},
        {"eps": float("inf")},
        {"min_norm": None},
        {"s": None},
        {"reduction": "max"},
        {"precision": "fp16"},
        {"s": -1},
        {"s": float("nan")},
    ],
)
def test_wrong_options(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        create_regularizer("mhe", nn.Linear(3, 3), **options)


VARIANTS = [
    ("mhe", {}),
    ("hs-mhe", {}),
    ("hs-mhe", {"s": 1, "geodesic": True}),
    ("group-comhe", {"groups": 3}),
    ("rp-comhe", {"dim": 6, "count": 3, "span": False}),
    ("rp-comhe", {"dim": 6, "count": 3, "span": True}),
    ("ap-comhe", {"dim": 6}),
    ("ap-comhe", {"dim": 6, "loss": "angle", "mode": "unrolled"}),
    ("adv-comhe", {"dim": 6, "steps": 2}),
    ("adv-comhe", {"dim": 6, "steps": 2, "mode": "alternating"}),
]
ALL = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=lambda x: x if isinstance(x, str) else "")


def attached(w, name, options, head=None):
    model = nn.Sequential(nn.Linear(w.shape[1], w.shape[0], bias=False), nn.Linear(w.shape[0], 4, bias=False)).to(w)
    with torch.no_grad():
        model[0].weight.copy_(w)
        if head is not None:
            model[1].weight.copy_(head)
    return model, create_regularizer(name, model, **options)


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parallel_rows_do_not_push_each_other(normal, name, options, dtype):
    """Multiples of one row, to the rounding of their numbers: no pair of them can turn the other."""
    w = (normal(1, 24) * torch.tensor([1, 2, -3, 0.7, 1, 1.3, -1, 5])[:, None].double()).to(dtype)
    if name == "mhe":
        w = w.abs() * normal(1, 24).sign().to(dtype)
    model, regularizer = attached(w, name, options)
    for _ in range(2):
        value = regularizer()
        assert value.isfinite()
        assert torch.autograd.grad(value, model[0].weight)[0].abs().max() < 1e-6
    for buffer in regularizer.buffers():
        assert buffer.abs().max() < 10


@ALL
@pytest.mark.parametrize("angle", [1e-1, 1e-2, 1e-4, 1e-5])
def test_nearly_parallel_rows_have_the_true_gradient(monkeypatch, normal, name, options, angle):
    """That of the same weights and projections in float64, with the floor of float32; errors go with eps / angle."""
    w = torch.nn.functional.normalize(normal(8, 24), dim=-1)
    aside = torch.nn.functional.normalize(w[1] - (w[1] @ w[0]) * w[0], dim=0)
    w[1] = 2.5 * (math.cos(angle) * w[0] + math.sin(angle) * aside)
    w, head = w.float(), normal(4, 8).float()
    gradients = []
    for dtype in (torch.float32, torch.float64):
        with monkeypatch.context() as patch:
            for limit in ("floor", "parallel"):
                method = getattr(Potential, limit)
                patch.setattr(Potential, limit, lambda self, dtype, method=method: method(self, torch.float32))
            model, regularizer = attached(w.to(dtype), name, options, head.to(dtype))
            (gradient,) = torch.autograd.grad(regularizer(), model[0].weight)
        gradients.append(gradient.double())
    assert gradients[1][:2].norm() > 1e-3
    assert (gradients[0] - gradients[1]).norm() < 1e-4 * gradients[1].norm()


@ALL
@pytest.mark.parametrize("role", ["head", "hidden"])
@pytest.mark.parametrize("gap", [1.0, 1e-3])
@pytest.mark.parametrize("length", [1e-3, 1e-6, 1e-12])
def test_a_step_does_not_throw_neurons_of_nearly_no_length(normal, name, options, role, gap, length):
    """A zeroed layer after its first step, of a batch or of one sample: SGD 1e-2 with the default weights."""
    short = length * torch.nn.functional.normalize(normal(1, 24) + gap * normal(12, 24, seed=1), dim=-1)
    hidden, head = (normal(24, 24), short) if role == "head" else (short, normal(4, 12))
    model = nn.Sequential(nn.Linear(24, len(hidden), bias=False), nn.Linear(head.shape[1], len(head), bias=False))
    with torch.no_grad():
        for layer, w in zip(model, (hidden, head), strict=True):
            layer.weight.copy_(w)
    changed = model[1 if role == "head" else 0].weight
    regularizer = create_regularizer(name, model, **options)
    (gradient,) = torch.autograd.grad(regularizer(), changed)
    assert (1e-2 * gradient).norm() < (1 if "geodesic" in options else 0.5)
    if length < 1e-5:
        assert gradient.norm() < 1


@ALL
def test_layers_of_longer_neurons_do_not_change(normal, name, options):
    w = normal(8, 24).float()
    values = [attached(w, name, options | {"min_norm": least}, w[:4, :8])[1]().item() for least in (0.0, 0.01)]
    assert values[0] == pytest.approx(values[1], rel=1e-6)


def test_a_zero_matrix_that_is_adapted_stays_small():
    """LoRA's B after steps of 1e-4: what regularizes it does not outweigh the task."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 8), nn.Linear(8, 48, bias=False), nn.Linear(48, 5))
    nn.init.zeros_(model[1].weight)
    regularizer = create_regularizer("hs-mhe", model)
    for _ in range(3):
        loss = model(torch.ones(1, 32)).square().mean() + regularizer()
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        assert gradients[2].norm() < 1
        with torch.no_grad():  # Adam's first steps
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= 1e-4 * gradient.sign()
    assert model[1].weight.norm() < 0.01

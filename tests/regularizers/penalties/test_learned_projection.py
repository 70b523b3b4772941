"""AP- and adversarial CoMHE: what P descends, how far, and how the neurons' gradient flows through it."""

import io
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from comhe.regularizers import create_regularizer

NAMES = pytest.mark.parametrize("name", ["ap-comhe", "adv-comhe"])
MODES = pytest.mark.parametrize("mode", ["alternating", "unrolled", "both"])


def cosine(w):
    u = w / w.norm(dim=-1, keepdim=True)
    return u @ u.mT


def angle_error(w, p):
    i, j = torch.triu_indices(len(w), len(w), offset=1)
    return (cosine(w)[i, j].acos() - cosine(w @ p.mT)[i, j].acos()).square().sum() * 2


def objective(name, plain):
    """What P descends, written out."""
    if name == "adv-comhe":
        return lambda w, p: -plain(w @ p.mT)  # the full space, though W descends the half space
    if name == "angle":
        return lambda w, p: angle_error(w, p).sqrt()
    return lambda w, p: torch.linalg.matrix_norm(cosine(w @ p.mT) - cosine(w))


def step(function, w, p, rate):
    p = p if p.requires_grad else p.clone().requires_grad_()
    (slope,) = torch.autograd.grad(function(w, p), p, create_graph=True)
    return p - rate * slope


@pytest.mark.parametrize("name", ["ap-comhe", "angle", "adv-comhe"])
@MODES
@pytest.mark.parametrize("steps", [1, 3])
def test_value_gradient_and_new_projection(projected, plain, name, mode, steps):
    model, rate, decay = projected(), 0.3, 0.01
    options = {"loss": "angle"} if name == "angle" else {}
    name_in_registry = "ap-comhe" if name == "angle" else name
    regularizer = create_regularizer(
        name_in_registry, model, dim=10, mode=mode, steps=steps, rate=rate, decay=decay, output_weight=3.0, **options
    )
    layer, w = regularizer.layers[0], model[0].weight
    function, start = objective(name, plain), regularizer.state_of(layer).clone()
    assert start.shape == (10, 24)
    assert regularizer.state_of(regularizer.layers[1]) is None  # d = 8
    assert regularizer.state_of(regularizer.layers[2]) is None  # the output layer

    used = kept = start
    if mode != "unrolled":
        for _ in range(steps):
            used = (step(function, w.detach(), used, rate) - rate * decay * used).detach()
        kept = used
    if mode != "alternating":
        used = step(function, w, used.requires_grad_(), rate)
    if mode == "unrolled":
        kept = used.detach()
    expected = plain(w @ used.mT, 2, True)
    (grad,) = torch.autograd.grad(expected, w)
    frozen = torch.autograd.grad(plain(w @ used.detach().mT, 2, True), w)[0]
    total = expected + plain(model[1].weight, 2, True) + 3 * plain(model[2].weight)

    value = regularizer()
    value.backward()
    assert value.item() == pytest.approx(total.item(), rel=1e-9)
    torch.testing.assert_close(w.grad, grad, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(regularizer.state_of(layer), kept, rtol=1e-9, atol=1e-11)
    if mode != "alternating":  # the flow through P' is not negligible here, so the test would see it missing
        assert (grad - frozen).norm() > 1e-3 * grad.norm()


@pytest.mark.parametrize(
    ("name", "options"), [("ap-comhe", {"loss": "cosine"}), ("ap-comhe", {"loss": "angle"}), ("adv-comhe", {})]
)
@pytest.mark.parametrize("n", [4, 7])
def test_gradient_through_the_unrolled_step(normal, name, options, n):
    """Finite differences of what follows the step on P are second derivatives of what P descends."""
    model = nn.Sequential(nn.Linear(5, n), nn.Linear(n, 2)).double()
    regularizer = create_regularizer(name, model, dim=3, rate=0.5, **options)
    layer = regularizer.layers[0]
    state, draws = regularizer.state_of(layer), regularizer.draw()
    assert gradcheck(lambda w: regularizer.penalty.value(w, layer, state, draws), normal(n, 5, seed=3).requires_grad_())


@NAMES
def test_steps_do_not_change_with_the_lengths_of_neurons(projected, name):
    model = projected()
    stretched = deepcopy(model)
    length = 10.0 ** torch.linspace(-40, 40, len(model[0].weight))[:, None].double()
    with torch.no_grad():
        stretched[0].weight.mul_(length)
    options = {"dim": 10, "rate": 0.3, "steps": 2, "min_norm": 0.0}
    ours, theirs = (create_regularizer(name, m, **options) for m in (stretched, model))
    for _ in range(2):
        value, expected = ours(), theirs()
        assert value.item() == pytest.approx(expected.item(), rel=1e-9)
    (value + expected).backward()
    torch.testing.assert_close(stretched[0].weight.grad * length, model[0].weight.grad, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(*(r.state_of(r.layers[0]) for r in (ours, theirs)), rtol=1e-9, atol=1e-11)


@NAMES
def test_the_unrolled_step_is_kept_at_its_own_rate(projected, name):
    model = projected()
    scheduled = create_regularizer(name, model, dim=10, mode="unrolled", rate=lambda step: 0.3 if step == 0 else 1e9)
    constant = create_regularizer(name, model, dim=10, mode="unrolled", rate=0.3)
    scheduled()
    constant()
    mine, other = (regularizer.state_of(regularizer.layers[0]) for regularizer in (scheduled, constant))
    torch.testing.assert_close(mine, other, rtol=1e-12, atol=0)


@NAMES
@pytest.mark.parametrize("mode", ["alternating", "both"])
def test_many_steps_at_once_are_many_calls(projected, name, mode):
    model = projected()
    at_once = create_regularizer(name, model, dim=10, mode=mode, steps=4)
    one_by_one = create_regularizer(name, model, dim=10, mode=mode, steps=1)
    at_once()
    for _ in range(4):
        one_by_one()
    mine, other = (regularizer.state_of(regularizer.layers[0]) for regularizer in (at_once, one_by_one))
    torch.testing.assert_close(mine, other, rtol=1e-12, atol=0)


@NAMES
@MODES
def test_restored_run_is_the_uninterrupted_one(projected, name, mode):
    model = projected(dtype=torch.float32)
    options = {"dim": 10, "mode": mode, "rate": lambda step: 0.1 / (1 + step)}
    uninterrupted = create_regularizer(name, model, seed=1, **options)
    sequence = [uninterrupted().item() for _ in range(6)]
    assert len(set(sequence)) == 6
    first = create_regularizer(name, model, seed=1, **options)
    for _ in range(3):
        first()
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    saved = {key: value.clone() for key, value in first.state_dict().items() if isinstance(value, torch.Tensor)}
    second = create_regularizer(name, model, seed=2, **options)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert [second().item() for _ in range(3)] == sequence[3:]
    for key, value in saved.items():
        assert first.state_dict()[key].equal(value)  # nobody else's state moved


@NAMES
@MODES
def test_report_and_no_grad(projected, name, mode):
    model = projected(dtype=torch.float32)
    regularizer = create_regularizer(name, model, dim=10, mode=mode)
    before = regularizer.state_of(regularizer.layers[0]).clone()
    regularizer.report()
    with torch.no_grad():
        regularizer.report()
        regularizer.layer_penalties(regularizer.draw())
    assert regularizer.state_of(regularizer.layers[0]).equal(before)
    assert regularizer.step == 0
    with torch.no_grad():
        silent = regularizer()
    again = create_regularizer(name, model, dim=10, mode=mode)
    assert again().item() == pytest.approx(silent.item(), rel=1e-6)  # another way to the same slopes
    assert not silent.requires_grad
    assert not regularizer.state_of(regularizer.layers[0]).requires_grad


@NAMES
@MODES
@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_zero_or_equal_neurons_stay_finite(projected, name, mode, fill):
    model = projected(dtype=torch.float32)
    nn.init.constant_(model[0].weight, fill)
    regularizer = create_regularizer(name, model, dim=10, mode=mode)
    for _ in range(2):
        value = regularizer()
        value.backward()
    assert value.isfinite()
    assert model[0].weight.grad.isfinite().all()
    assert regularizer.state_of(regularizer.layers[0]).isfinite().all()


@pytest.mark.parametrize("options", [{"dim": 1}, {"mode": "neither"}, {"steps": 0}, {"rate": 0}, {"decay": -1}])
def test_wrong_options(projected, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        create_regularizer("ap-comhe", projected(), **options)


@NAMES
@pytest.mark.parametrize("mode", ["unrolled", "both"])
@pytest.mark.parametrize("groups", [1, 2])
def test_memory_format_changes_nothing(normal, name, mode, groups):
    plain_format, channels_last = (
        nn.Sequential(nn.Conv2d(4, 6, 3, groups=groups), nn.Linear(4, 2)).double() for _ in range(2)
    )
    channels_last.load_state_dict(plain_format.state_dict())
    channels_last.to(memory_format=torch.channels_last)
    assert groups == 2 or not channels_last[0].weight.is_contiguous()
    first, second = (create_regularizer(name, m, dim=5, mode=mode, rate=0.5) for m in (plain_format, channels_last))
    for _ in range(2):
        value, other = first(), second()
    torch.testing.assert_close(value, other, rtol=1e-7, atol=0)
    value.backward()
    other.backward()
    torch.testing.assert_close(plain_format[0].weight.grad, channels_last[0].weight.grad, rtol=1e-6, atol=1e-9)
    mine, theirs = (regularizer.state_of(regularizer.layers[0]) for regularizer in (first, second))
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-9)

"""The penalty counts once an optimizer step in any loop (with several processes: test_regularizer_processes.py)."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

from comhe.errors import UsageError
from comhe.regularizers import combine, create_regularizer, list_regularizers

SMALL = {
    "rp-comhe": {"dim": 4, "count": 3, "span": True},
    "ap-comhe": {"dim": 4},
    "adv-comhe": {"dim": 4, "steps": 2},
    "group-comhe": {"groups": 2, "partition": "random"},
}
BATCHES = torch.randn(3, 5, 12, generator=torch.Generator().manual_seed(2))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 6), nn.Tanh(), nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 4))


def attach(name, model, **options):
    return create_regularizer(name, model, **SMALL.get(name, {}), **options)


def gradients(model):
    return [p.grad for p in model.parameters()]


@pytest.mark.parametrize("place", ["first", "last", "apart"])
def test_accumulated_batches(place):
    model, expected = network(), network()
    (expected(BATCHES.flatten(0, 1)).square().mean() + attach("hs-mhe", expected)()).backward()
    regularizer = attach("hs-mhe", model)
    for index, batch in enumerate(BATCHES):
        loss = model(batch).square().mean() / len(BATCHES)
        (loss + regularizer() if index == {"first": 0, "last": 2}.get(place) else loss).backward()
    if place == "apart":
        regularizer().backward()
    torch.testing.assert_close(gradients(model), gradients(expected))


def test_a_gradient_scaler_and_autocast():
    model, expected = network(), network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    scaler, regularizer = torch.amp.GradScaler("cpu", init_scale=512.0), attach("rp-comhe", model)
    with torch.autocast("cpu", torch.bfloat16):
        loss = 0 * model(BATCHES[0]).sum() + regularizer()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    attach("rp-comhe", expected)().backward()
    for found, true in zip(gradients(model), gradients(expected), strict=True):
        torch.testing.assert_close(found, torch.zeros_like(found) if true is None else true)


@pytest.mark.parametrize("name", [name for name in list_regularizers() if name != "none"])
def test_optimizers_that_take_turns_share_a_step(name):
    """Which layers count in a call changes nothing for the others: neither their draws nor what is learned of them."""
    whole, parts = attach(name, network()), attach(name, network())
    for step in range(3):
        first, *others = parts.layers
        value = parts.total(parts.draw([first])) + parts.total(parts.draw(others))
        parts.step += 1
        assert value.item() == pytest.approx(whole().item(), rel=1e-5), step
    for key, buffer in whole.named_buffers():
        torch.testing.assert_close(buffer, parts.get_buffer(key))


@pytest.mark.parametrize("name", ["rp-comhe", "ap-comhe"])
def test_freezing_a_layer_changes_nothing_for_the_others(name):
    model = network()
    rest = {"weight": {"0": 0.0}}
    frozen, weightless = attach(name, model), attach(name, network(), **rest)
    model[0].requires_grad_(False)
    for _ in range(3):
        assert frozen().item() == pytest.approx(weightless().item(), rel=1e-6)


def test_averaged_models_and_models_that_hold_their_regularizer():
    model = network()
    model.regularizer = attach("ap-comhe", model)
    averaged = AveragedModel(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            model.regularizer().backward()
            averaged.update_parameters(model)
        twin = copy.deepcopy(model)
        assert twin.regularizer.layers[0].module is twin[0]
        assert twin.regularizer().item() == model.regularizer().item()
    assert model.regularizer.layers[0].module is model[0]
    other = network()
    other.regularizer = attach("ap-comhe", other)
    other.load_state_dict(model.state_dict())
    assert other.regularizer.step == model.regularizer.step


def test_a_head_that_is_replaced_under_compile():
    model = network()
    compiled = torch.compile(model, backend="eager")
    regularizer = attach("hs-mhe", compiled)
    step = torch.compile(lambda x: compiled(x).square().mean() + regularizer(), backend="eager")
    step(BATCHES[0]).backward()
    model[4] = nn.Linear(12, 7)
    with pytest.warns(UserWarning, match=r"replaced: 4 \(7 x 12, was 4 x 12\)"):
        step(BATCHES[0]).backward()
    assert model[4].weight.grad.count_nonzero()


@pytest.mark.parametrize("name", ["mhe", "ap-comhe", "none"])
def test_the_backward_pass_of_a_constant_does_nothing(name):
    model = nn.Sequential(nn.Linear(40, 8), nn.Linear(8, 3))
    regularizer = create_regularizer(name, model, weight=lambda step: float(step > 2), output_weight=None)
    for value in (regularizer(), combine(regularizer)()):
        value.backward()
        assert all(p.grad is None for p in model.parameters())
    loss = regularizer()
    loss += 1.0
    loss.backward()
    with torch.no_grad():
        assert not regularizer().requires_grad
    assert list(torch.func.grad(regularizer)(dict(model.named_parameters()))) == list(dict(model.named_parameters()))


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpointed_step_is_refused_and_a_checkpointed_network_is_not(reentrant):
    """Repeated in the backward pass, the penalty would have other projections and its gradient would be of those."""
    model, x = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 5)), torch.ones(2, 6, requires_grad=True)
    regularizer = create_regularizer("rp-comhe", model, dim=3)
    loss = checkpoint(lambda x: model(x).mean() + regularizer(), x, use_reentrant=reentrant)
    with pytest.raises(UsageError, match="outside of the checkpointed function"):
        loss.backward()
    (checkpoint(model, x, use_reentrant=reentrant).mean() + regularizer()).backward()
    assert regularizer.step == 2

"""The regularizer inside torch's own transformations: compile, functional calls, pickling, the meta device."""

import pickle

import pytest
import torch
from torch import nn

from comhe.regularizers import create_regularizer, hyperspherical_energy, list_regularizers

DATA = [(torch.randn(4, 50, generator=torch.Generator().manual_seed(i)), torch.arange(4) % 3) for i in range(6)]
OPTIONS = {"weight": 2.0, "output_weight": 3.0, "dim": 8}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(50, 12), nn.Tanh(), nn.Linear(12, 3))


def test_energy_compiles_as_one_graph():
    w = torch.randn(8, 12, requires_grad=True)
    compiled = torch.compile(lambda w: hyperspherical_energy(w, 2, True), backend="aot_eager", fullgraph=True)
    expected = hyperspherical_energy(w, 2, True)
    torch.testing.assert_close(compiled(w), expected)
    (grad,) = torch.autograd.grad(compiled(w), w)
    torch.testing.assert_close(grad, torch.autograd.grad(expected, w)[0])


def test_a_compiled_step_is_the_eager_one():
    model, x = network(), DATA[0][0]
    regularizers = [create_regularizer("rp-comhe", model, dim=8) for _ in range(2)]
    compiled = torch.compile(lambda x: model(x).square().mean() + regularizers[0](), backend="aot_eager")
    values = [(compiled(x).item(), (model(x).square().mean() + regularizers[1]()).item()) for _ in range(3)]
    assert values[0][0] != values[1][0]  # the draw advances inside the compiled step
    for compiled_value, eager in values:
        assert compiled_value == pytest.approx(eager, rel=1e-5)


@pytest.mark.parametrize("name", list_regularizers())
def test_substituted_parameters_pickling_and_meta(name):
    model = network()
    regularizer, other = (create_regularizer(name, model) for _ in range(2))
    moved = {key: value.detach() + 0.3 for key, value in model.named_parameters()}
    value = regularizer(moved)
    grads = torch.func.grad(lambda p: other(p))(moved)
    before = create_regularizer(name, model)()
    model.load_state_dict(moved)
    again = create_regularizer(name, model)()
    assert value.item() == pytest.approx(again.item(), rel=1e-5)
    if name != "none":
        assert value.item() != pytest.approx(before.item(), rel=1e-6)
        (grad,) = torch.autograd.grad(again, model[0].weight)
        torch.testing.assert_close(grads["0.weight"], grad, rtol=1e-3, atol=1e-3 * float(grad.abs().max()))

    copied = pickle.loads(pickle.dumps(regularizer))
    assert copied().item() == pytest.approx(regularizer().item(), rel=1e-6)

    with torch.device("meta"):
        empty = nn.Sequential(nn.Linear(50, 12), nn.Linear(12, 3))
    attached = create_regularizer(name, empty)
    attached()
    empty.to_empty(device="cpu").load_state_dict({key.replace("2.", "1."): value for key, value in moved.items()})
    fresh = create_regularizer(name, empty)
    fresh.step = attached.step
    assert attached().item() == pytest.approx(fresh().item(), rel=1e-5)

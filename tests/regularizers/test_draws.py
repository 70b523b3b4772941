"""Random tensors are functions of seed, step and key; capturable ones keep their memory."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from comhe.regularizers import Draws, create_regularizer
from comhe.regularizers.draws import generator, random_matrix


def test_numbers_are_those_of_the_hashed_key():
    draws = Draws(seed=4, step=7)
    draws.normal("layer", (3, 5))
    draws.permutation("order", 9, every=2)
    draws.subset(("layer", "sample"), 9, 4)
    assert draws["layer"].equal(torch.randn(3, 5, generator=generator("cpu", 4, 7, "layer")))
    assert draws["order"].equal(torch.randperm(9, generator=generator("cpu", 4, 3, "order")))
    order = torch.randperm(9, generator=generator("cpu", 4, 7, "layer", "sample"))
    assert draws["layer", "sample"].equal(order[:4].sort().values)
    assert "layer" in draws
    assert "other" not in draws


@pytest.mark.parametrize("distribution", ["gaussian", "ternary"])
@pytest.mark.parametrize("sizes", [(3, 5, 16), (17, 1000)])
def test_a_pool_holds_the_same_numbers_one_after_another(distribution, sizes):
    draws = Draws(seed=1, step=2)
    draws.pool("all", {size: (2, size) for size in sizes}, distribution)
    expected = [random_matrix((2, size), distribution, "cpu", 1, 2, size) for size in sizes]
    for size, one in zip(sizes, expected, strict=True):
        assert draws[size].equal(one)
    assert torch.cat([one.flatten() for one in expected]).equal(draws["all"])
    assert draws[sizes[1]].storage_offset() == 2 * sizes[0]


def test_capturable_tensors_are_written_in_place():
    memory = {}
    found = []
    for step in range(3):
        draws = Draws(0, step, capturable=True, memory=memory)
        draws.normal("a", (4,), every=2)
        draws.permutation("b", 6)
        draws.scalar("rate", 0.5 / (step + 1))
        assert draws["rate"].item() == pytest.approx(0.5 / (step + 1))
        found.append([(tensor, tensor.clone()) for tensor in (draws["a"], draws["b"], draws["rate"])])
    for tensors in zip(*found, strict=True):
        assert len({tensor.data_ptr() for tensor, _ in tensors}) == 1
    assert found[0][0][1].equal(found[1][0][1])
    assert not found[0][0][1].equal(found[2][0][1])
    assert Draws(0, 2).step == 2


def test_other_steps_leave_the_tensors_of_a_step_alone():
    memory = {}
    first = Draws(0, 0, memory=memory)
    first.normal("a", (4,))
    kept = first["a"].clone()
    second = Draws(0, 1, memory=memory)
    second.normal("a", (4,))
    assert first["a"].equal(kept)
    assert not second["a"].equal(kept)
    second.scalar("rate", 0.5)
    assert second["rate"] == 0.5


def test_a_step_draws_its_pool_in_place_without_a_copy():
    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            names.add(func.overloadpacket.__name__)
            return func(*args, **kwargs or {})

    memory, names = {}, set()
    for step in range(2):
        draws = Draws(0, step, capturable=True, memory=memory)
        with Names():
            draws.pool("pool", {"a": (3, 4), "b": (5,)})
    assert "normal_" in names
    assert not names & {"cat", "stack", "copy_", "clone"}


def test_weights_are_on_the_device_once():
    layers = create_regularizer("mhe", nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3))).layers
    first, again = (Draws(0, step, layers, [1.5, 2.5]).weights(layers) for step in range(2))
    assert first is again  # another copy from the host would wait for the device


@pytest.mark.parametrize("capturable", [False, True])
def test_weights(capturable):
    layers = create_regularizer("mhe", nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3))).layers
    draws = Draws(0, 0, layers, [0.0, 2.5], capturable=capturable)
    assert [draws.is_weighted(layer) for layer in layers] == [False, True]
    assert float(draws.weight(layers[1])) == 2.5
    assert draws.weights(layers).tolist() == [0.0, 2.5]


def test_the_default_device_may_be_another():
    expected = random_matrix((3, 4), "gaussian", "cpu", 1)
    with torch.device("meta"):
        assert random_matrix((3, 4), "gaussian", "cpu", 1).equal(expected)


@pytest.mark.parametrize(("name", "options"), [("rp-comhe", {"dim": 4, "redraw": 2}), ("hs-mhe", {"sample": 6})])
def test_what_is_drawn_in_inference_mode_serves_the_steps_after_it(name, options):
    model = nn.Sequential(nn.Linear(20, 9), nn.Linear(9, 5))
    regularizer = create_regularizer(name, model, **options)
    with torch.inference_mode():
        regularizer()
    regularizer().backward()
    assert model[0].weight.grad.isfinite().all()

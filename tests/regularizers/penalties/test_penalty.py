"""A penalty of a user's own: stateless, random, stateful; in any precision, in a graph, and among ranks."""

import pytest
import torch
from torch import nn

from comhe.regularizers import Penalty, Regularizer, hyperspherical_energy, register_regularizer


class SquaredNorm(Penalty):
    def function(self, w):
        assert w.dtype == torch.float32
        return w.square().sum((-2, -1))


class RandomDirection(Penalty):
    """Mean squared product of the neurons with a random vector."""

    def draw(self, layers, draws):
        for layer in layers:
            draws.normal(layer.name, layer.shape[-1:], every=2)

    def value(self, w, layer, state, draws):
        return (w @ draws[layer.name]).square().mean(-1)


class AwayFromMean(Penalty):
    """Mean squared product of the neurons with their running mean."""

    def __init__(self, *, momentum=0.5):
        self.momentum = momentum

    def init(self, w, layer, seed):
        return w.mean(-2)

    def update(self, w, layer, state, draws):
        return self.momentum * state + (1 - self.momentum) * w.mean(-2)

    def value(self, w, layer, state, draws):
        return (w @ state[..., None]).square().mean((-2, -1))


def network(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3, groups=2), nn.Linear(5, 4)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_neurons_come_in_float32_with_autocast_off(dtype):
    model = network(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        value = Regularizer(model, SquaredNorm())()
    expected = sum(layer.weight.float().square().sum() for layer in (model[0], model[2]))
    expected += model[1].weight.float().square().sum() / 2  # the mean over two groups
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)


def test_random_tensors_are_functions_of_seed_and_step():
    def values(seed):
        regularizer = Regularizer(network(), RandomDirection(), seed=seed)
        return [regularizer().item() for _ in range(4)]

    assert values(1) == values(1) != values(2)
    first, second, third, fourth = values(1)
    assert (first, third) == (second, fourth)
    assert first != third


def test_state_follows_and_is_saved():
    model = network().double()
    regularizer = Regularizer(model, AwayFromMean(momentum=0.25))
    layer, mean = regularizer.layers[0], model[0].weight.detach().flatten(1).mean(0)
    for _ in range(2):
        regularizer()
        with torch.no_grad():
            model[0].weight.add_(0.1)
    expected = mean * 0.25 + (mean + 0.1) * 0.75
    torch.testing.assert_close(regularizer.state_of(layer), expected)
    assert set(regularizer.state_dict()) == {"state:0", "state:1", "state:2", "_extra_state"}
    other = Regularizer(model, AwayFromMean(momentum=0.25))
    other.load_state_dict(regularizer.state_dict())
    assert other().item() == regularizer().item()


def test_state_follows_where_the_weight_is_zero_for_now():
    model = network()
    quiet = Regularizer(model, AwayFromMean(), weight=lambda step: 0.0)
    loud = Regularizer(model, AwayFromMean())
    with torch.no_grad():
        model[0].weight.add_(0.1)
    assert quiet().item() == 0
    loud()
    for layer, other in zip(quiet.layers, loud.layers, strict=True):
        assert quiet.state_of(layer).equal(loud.state_of(other))


@pytest.mark.parametrize("penalty", [RandomDirection, AwayFromMean])
def test_capturable_tensors_keep_their_memory(penalty):
    model = network()
    regularizer, ordinary = Regularizer(model, penalty(), capturable=True), Regularizer(model, penalty())
    pointers = []
    for _ in range(3):
        draws = regularizer.draw()
        value, grads = regularizer.value_and_grad(list(model.parameters()), draws)
        regularizer.step += 1
        expected = ordinary()
        assert value.item() == pytest.approx(expected.item(), rel=1e-6)
        assert grads[0].isfinite().all()
        tensors = [*regularizer.buffers(), *(draws[layer.name] for layer in regularizer.layers if layer.name in draws)]
        pointers.append([tensor.data_ptr() for tensor in tensors])
        with torch.no_grad():
            model[0].weight.mul_(1.1)
    assert pointers[0] == pointers[1] == pointers[2]


def test_a_function_may_be_anything_of_the_neurons():
    class Energy(Penalty):
        function = staticmethod(hyperspherical_energy)

    model = nn.Linear(5, 4)
    assert Regularizer(model, Energy(), weight=2.0)().equal(2 * hyperspherical_energy(model.weight))


def test_a_penalty_that_is_not_complete_says_what_it_lacks():
    class Empty(Penalty):
        pass

    class Pair(Penalty):
        def init(self, w, layer, seed):
            return w, w

    with pytest.raises(TypeError, match=r"Empty must define function\(w\) or value"):
        register_regularizer("empty")(Empty)
    with pytest.raises(TypeError, match="Pair: init must return one tensor or None, not a tuple"):
        Regularizer(torch.nn.Linear(4, 3), Pair())

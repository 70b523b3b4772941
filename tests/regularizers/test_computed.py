"""Weights that hooks and parametrizations compute: fresh, differentiable, and without side effects."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from comhe.regularizers import NoNeuronsError, create_regularizer, hyperspherical_energy, list_regularizers, neurons
from comhe.regularizers.computed import up_to_date, walk

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")


def by_own_hook(module):
    """A weight that is the softplus of a parameter, set before each forward pass."""
    weight = module.weight
    del module._parameters["weight"]
    module.raw = nn.Parameter(weight.detach().clone())

    def compute(layer, inputs):
        layer.weight = nn.functional.softplus(layer.raw)

    compute(module, ())
    module.register_forward_pre_hook(compute)
    return module


def with_keywords(module):
    weight = module.weight
    del module._parameters["weight"]
    module.raw = nn.Parameter(weight.detach().clone())

    def compute(layer, args, kwargs):
        layer.weight = layer.raw.tanh()

    module.weight = module.raw.tanh()
    module.register_forward_pre_hook(compute, with_kwargs=True)
    return module


def recorded(module):
    """A hook that needs the input stands before the one that computes the weight."""
    module.register_forward_pre_hook(lambda layer, inputs: setattr(layer, "seen", inputs[0].shape))
    return nn.utils.weight_norm(module)


def pruned_below(module, original):
    """A parametrization of a parameter that is pruned."""
    prune.l1_unstructured(module.parametrizations.weight, original, 0.5)
    return module


HOOKS = {
    "weight norm": nn.utils.weight_norm,
    "spectral norm": nn.utils.spectral_norm,
    "pruned": lambda module: prune.l1_unstructured(module, "weight", 0.5),
    "pruned twice": lambda module: prune.random_unstructured(prune.l1_unstructured(module, "weight", 0.5), "weight", 1),
    "structured": lambda module: prune.ln_structured(module, "weight", 1, n=2, dim=0),
    "own": by_own_hook,
    "keywords": with_keywords,
    "recorded": recorded,
    "parametrized weight norm": parametrizations.weight_norm,
    "parametrized spectral norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "pruned directions": lambda module: pruned_below(parametrizations.weight_norm(module), "original1"),
    "pruned and spectral norm": lambda module: pruned_below(parametrizations.spectral_norm(module), "original"),
}


@pytest.mark.parametrize("name", HOOKS)
def test_the_penalty_follows_the_weight_that_the_next_forward_pass_uses(normal, name):
    model = nn.Sequential(HOOKS[name](nn.Linear(8, 6)), nn.Linear(6, 3)).double()
    regularizer = create_regularizer("mhe", model, output_weight=0)
    assert [layer.name for layer in regularizer.layers] == ["0", "1"]
    optimizer, x = torch.optim.SGD(model.parameters(), 0.5), normal(5, 8)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).sum().backward()
        regularizer().backward()  # the forward pass's graph is gone
        optimizer.step()
    value = regularizer().item()
    state = copy.deepcopy(model.state_dict())
    assert regularizer().item() == value
    assert all(entry.equal(state[key]) for key, entry in model.state_dict().items())  # no power iteration
    model.eval()(x)
    assert value == pytest.approx(hyperspherical_energy(model[0].weight).item(), rel=1e-9)


@pytest.mark.parametrize("name", list_regularizers())
def test_no_regularizer_trains_the_vectors_of_spectral_norm(name):
    model = nn.Sequential(parametrizations.spectral_norm(nn.Conv2d(16, 8, 3)), nn.utils.spectral_norm(nn.Linear(64, 5)))
    regularizer, state = create_regularizer(name, model, output=None), copy.deepcopy(model.state_dict())
    for _ in range(2):
        regularizer()
    regularizer.report()
    assert all(entry.equal(state[key]) for key, entry in model.state_dict().items())


@pytest.mark.parametrize("name", list_regularizers())
def test_a_weight_of_the_last_forward_pass_in_another_memory_format_changes_nothing(name):
    plain, moved = (prune.l1_unstructured(nn.Conv2d(16, 8, 3), "weight", 0.3) for _ in range(2))
    moved.load_state_dict(plain.state_dict())
    moved.to(memory_format=torch.channels_last)
    first, second = (create_regularizer(name, layer, output=None) for layer in (plain, moved))
    for _ in range(2):
        assert first().item() == pytest.approx(second().item(), rel=1e-5)


@pytest.mark.parametrize("layer", [nn.Linear(4, 6), nn.Conv2d(4, 6, 3)], ids=str)
def test_a_hook_that_has_not_run_yet_gives_the_weight(layer):
    """An equalized learning rate: the weight is there only after the first forward pass."""
    weight = layer._parameters.pop("weight")
    layer.register_parameter("weight_orig", weight)
    layer.register_forward_pre_hook(lambda module, inputs: setattr(module, "weight", 0.5 * module.weight_orig))
    model = nn.Sequential(layer, nn.ReLU(), nn.Linear(6, 3))
    regularizer = create_regularizer("orthogonal", model)
    assert [(layer.name, layer.role) for layer in regularizer.layers] == [("0", "hidden"), ("2", "output")]
    assert "weight" not in vars(layer)
    assert neurons(layer).equal(0.5 * weight.flatten(1))
    regularizer().backward()
    assert weight.grad.abs().sum() > 0
    layer.weight = torch.zeros_like(weight)  # as of an earlier pass
    assert neurons(layer).equal(0.5 * weight.flatten(1))


@pytest.mark.parametrize("name", ["weight norm", "spectral norm", "pruned", "own"])
def test_only_the_stand_in_is_written_to(name):
    layer = HOOKS[name](nn.Linear(8, 6))
    before, entries = layer.weight, set(vars(layer))
    current = up_to_date(layer)
    assert current is not layer
    assert layer.weight is before
    assert layer.training
    assert set(vars(layer)) == entries
    assert current.weight is not before


def test_layers_without_hooks_are_taken_as_they_are():
    layer = nn.Linear(8, 6)
    layer.register_forward_pre_hook(lambda module, inputs: pytest.fail("nothing is computed here"))
    assert up_to_date(layer) is layer
    assert neurons(layer) is layer.weight


def test_convolutions_are_pruned_in_any_memory_format():
    layer = prune.l1_unstructured(nn.Conv2d(4, 6, 3), "weight", 0.5).to(memory_format=torch.channels_last)
    masked = layer.weight_orig * layer.weight_mask
    assert neurons(layer).equal(masked.flatten(1))
    assert neurons(layer, ordered=False).equal(masked.movedim(1, -1).flatten(1))


def test_pruned_and_normed_models_can_be_copied_and_pickled():
    model = nn.Sequential(prune.l1_unstructured(nn.Linear(8, 6), "weight", 0.5), nn.Linear(6, 3))
    regularizer = create_regularizer("mhe", model)
    value = regularizer().item()
    prune.remove(model[0], "weight")
    assert neurons(model[0]) is model[0].weight
    copied = pickle.loads(pickle.dumps(create_regularizer("mhe", model)))
    assert copied().item() == pytest.approx(value)


def test_a_cached_parametrization_is_computed_again():
    layer = parametrizations.weight_norm(nn.Linear(8, 6))
    with parametrize.cached():
        layer(torch.ones(2, 8)).sum().backward()
        hyperspherical_energy(neurons(layer)).backward()
        assert parametrize._cache_enabled


def test_a_weight_from_outside_of_the_layer_is_not_read():
    """A hypernetwork computes another layer's weight: its graph is of one step, and nobody here can repeat it."""

    class Hyper(nn.Module):
        def __init__(self):
            super().__init__()
            self.made, self.maker = nn.Linear(4, 6), nn.Linear(3, 24)
            del self.made._parameters["weight"]
            self.made.weight = self.maker(torch.ones(3)).view(6, 4)

    model = Hyper()
    with pytest.raises(NoNeuronsError, match=r"Linear\.weight is computed elsewhere"):
        neurons(model.made)
    regularizer = create_regularizer("mhe", model)
    assert [layer.name for layer in regularizer.layers] == ["maker"]
    assert "computed elsewhere" in {item.name: item.reason for item in regularizer.skipped}["made"]


def test_an_activation_that_a_layer_keeps_is_none_of_its_weights():
    layer = nn.Linear(4, 3)
    layer.kept = layer(torch.ones(2, 4))
    assert neurons(layer) is layer.weight


def test_walking_is_named_modules():
    model = nn.ModuleDict({"a": nn.Sequential(nn.Linear(2, 2), nn.ReLU()), "b": nn.ModuleList(), "c": nn.LSTM(2, 2)})
    model["d"] = model["a"][0]
    assert list(walk(model)) == list(model.named_modules())
    assert list(walk(model["a"], "x")) == list(model["a"].named_modules(prefix="x"))


def test_hooks_that_compute_no_weight_are_not_called():
    class Masked(nn.Linear):
        def __init__(self):
            super().__init__(6, 5)
            self.mask = torch.ones(5, 6)

    layer, seen = Masked(), []
    layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    regularizer = create_regularizer("mhe", layer)
    regularizer().backward()
    regularizer.report()
    assert seen == []

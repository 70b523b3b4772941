"""Every registered regularizer on every kind of layer, and the plug that they share."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from comhe.errors import UsageError
from comhe.regularizers import MHE, Penalty, Regularizer, create_regularizer, list_regularizers, regularizer_options

LAYERS = {
    "linear": lambda: nn.Linear(12, 6),
    "conv1d": lambda: nn.Conv1d(4, 6, 3),
    "conv2d": lambda: nn.Conv2d(4, 6, 3),
    "conv3d": lambda: nn.Conv3d(4, 6, 2),
    "grouped": lambda: nn.Conv2d(8, 6, 3, groups=2),
    "depthwise": lambda: nn.Conv2d(6, 6, 3, groups=6),
    "transposed": lambda: nn.ConvTranspose2d(4, 6, 3),
    "transposed-grouped": lambda: nn.ConvTranspose2d(8, 6, 3, groups=2),
    "embedding": lambda: nn.Embedding(7, 9, padding_idx=0),
    "bilinear": lambda: nn.Bilinear(3, 4, 6),
    "attention": lambda: nn.MultiheadAttention(8, 2),
    "rnn": lambda: nn.RNN(8, 6),
    "gru": lambda: nn.GRU(8, 6),
    "lstm-cell": lambda: nn.LSTMCell(8, 6),
    "weight-norm": lambda: parametrizations.weight_norm(nn.Linear(12, 6)),
    "spectral-norm": lambda: parametrizations.spectral_norm(nn.Conv2d(4, 6, 3)),
    "wide": lambda: nn.Linear(5, 20),
}
KINDS = ("conv", "linear", "attention", "recurrent", "embedding", "other")
SMALL = {
    "rp-comhe": {"dim": 4, "count": 3},
    "ap-comhe": {"dim": 4},
    "adv-comhe": {"dim": 4, "steps": 2},
    "group-comhe": {"groups": 2, "partition": "random"},
}
NAMES = list_regularizers()
EVERY = pytest.mark.parametrize("name", NAMES)
PENALTIES = pytest.mark.parametrize("name", [name for name in NAMES if name != "none"])


def small(name, model=None, **options):
    model = model or nn.Sequential(nn.Conv2d(3, 6, 3), nn.Linear(12, 5), nn.Linear(5, 4))
    return create_regularizer(name, model, **SMALL.get(name, {}), **options)


@PENALTIES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_penalty_on_every_layer(name, dtype):
    model = nn.ModuleDict({**{kind: layer() for kind, layer in LAYERS.items()}, "head": nn.Linear(6, 4)}).to(dtype)
    regularizer = small(name, model, kinds=KINDS)
    assert model.keys() <= {layer.name for layer in regularizer.layers}
    for _ in range(2):
        value = regularizer()
        assert value.shape == ()
        assert value.dtype == torch.float32
        assert value.isfinite()
        model.zero_grad()
        value.backward()
    for layer in regularizer.layers:
        grads = [p.grad for p in layer.module.parameters() if p.grad is not None]
        assert any(grad.count_nonzero() > 0 for grad in grads), layer
        assert all(grad.isfinite().all() for grad in grads), layer


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), True, "1"])
def test_wrong_weights(weight):
    with pytest.raises(UsageError, match="weight must be a finite number >= 0"):
        create_regularizer("mhe", nn.Linear(3, 3), weight=weight)
    with pytest.raises(UsageError, match="output_weight must be"):
        create_regularizer("mhe", nn.Linear(3, 3), output_weight=weight)


@PENALTIES
def test_weights_multiply_hidden_and_output_layers(name):
    model = nn.Sequential(nn.Linear(12, 6), nn.Linear(7, 5), nn.Linear(5, 4))
    learns = "comhe" in name or name in ("mhp", "mhc")  # the report is of the state before the step
    parts = [] if learns else [row.penalty for row in small(name, model).report().layers]

    def value(weight, output_weight):
        return small(name, model, weight=weight, output_weight=output_weight)().item()

    hidden, output = value(1, 0), value(0, 1)
    assert value(0.25, 3.0) == pytest.approx(0.25 * hidden + 3 * output, rel=1e-5)
    assert value(2.0, None) == pytest.approx(2 * (hidden + output), rel=1e-5)
    assert value(0, 0) == 0
    if parts:
        assert hidden == pytest.approx(parts[0] + parts[1], rel=1e-5)
        assert output == pytest.approx(parts[2], rel=1e-5)


def test_default_weights():
    for name in ("mhe", "hs-mhe", "rp-comhe", "ap-comhe", "adv-comhe", "group-comhe"):
        assert [row.weight for row in small(name).report().layers] == [1, 1, 10], name
    for name in ("so", "srip", "orthogonal", "mma", "ocnn"):
        weights = [row.weight for row in small(name).report().layers]
        assert weights == [regularizer_options(name)["weight"] or weights[0]] * 3, name


def test_weight_schedules():
    steps = []

    def schedule(step):
        steps.append(step)
        return 0.5 * step

    model = nn.Linear(4, 3)
    regularizer = create_regularizer("mhe", model, output=None, weight=schedule)
    unit = create_regularizer("mhe", model, output=None)
    values = [regularizer().item() for _ in range(4)]
    assert values == pytest.approx([0.5 * step * unit().item() for step in range(4)])
    assert steps == [0, 1, 2, 3]
    broken = create_regularizer("mhe", nn.Linear(4, 3), output=None, weight=lambda step: 1.0 - step)
    broken(), broken()
    with pytest.raises(ValueError, match=r"schedule's weight at step 2 must be .* not -1"):
        broken()


@EVERY
def test_state_round_trip_and_repr(name):
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Linear(12, 5), nn.Linear(5, 4))
    first = small(name, model, seed=5)
    for _ in range(3):
        first()
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = small(name, model, seed=6)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert second.step == 3
    for _ in range(2):
        assert second().item() == first().item()
    assert repr(first).startswith(f"{name}(")
    assert "\n" not in repr(first)
    assert "weight=" in repr(first)


@EVERY
def test_the_model_is_not_owned(name):
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Linear(12, 5), nn.Linear(5, 4))
    keys = set(model.state_dict())
    regularizer = small(name, model)
    regularizer()
    assert list(regularizer.parameters()) == []
    assert list(regularizer.children()) == []
    assert set(model.state_dict()) == keys
    assert not keys & set(regularizer.state_dict())


@PENALTIES
def test_deepcopy_of_both_keeps_them_linked(name):
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Linear(12, 5), nn.Linear(5, 4))
    regularizer = small(name, model)
    regularizer()
    twin_model, twin = copy.deepcopy((model, regularizer))
    for layer, other in zip(regularizer.layers, twin.layers, strict=True):
        assert layer.module is model.get_submodule(layer.name)
        assert other.module is twin_model.get_submodule(other.name)
    assert twin().item() == regularizer().item()
    twin().backward()
    assert twin_model[0].weight.grad is not None
    assert model[0].weight.grad is None


@EVERY
def test_report_changes_nothing(name):
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Linear(12, 5), nn.Linear(5, 4))
    quiet, asked = small(name, model), small(name, model)
    for _ in range(3):
        before = copy.deepcopy(asked.state_dict())
        assert str(asked.report()) == str(asked.report())
        after = asked.state_dict()
        assert before.keys() == after.keys()
        for key, value in before.items():
            assert value.equal(after[key]) if isinstance(value, torch.Tensor) else value == after[key]
        assert asked().item() == quiet().item()
    assert model[0].weight.grad is None


@PENALTIES
def test_autocast_changes_nothing(name):
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Linear(12, 5), nn.Linear(5, 4))
    outside, inside = small(name, model), small(name, model)
    for _ in range(2):
        expected = torch.autograd.grad(outside(), model[0].weight)[0]
        with torch.autocast("cpu", torch.bfloat16):
            value = inside()
        assert value.dtype == torch.float32
        assert torch.autograd.grad(value, model[0].weight)[0].equal(expected)


@PENALTIES
def test_memory_format_changes_nothing(name):
    """Channels last is a matter of speed: learned and drawn projections must meet the same input entries."""
    torch.manual_seed(1)
    # In double precision: the adversary's ascent is chaotic, and single rounding errors grow visible in three steps.
    model = nn.Sequential(nn.Conv2d(5, 6, 3), nn.Conv2d(6, 8, 3, groups=2), nn.Linear(12, 4)).double()
    twin = copy.deepcopy(model).to(memory_format=torch.channels_last)
    first, second = small(name, model), small(name, twin)
    for _ in range(3):
        value, other = first(), second()
        assert other.item() == pytest.approx(value.item(), rel=1e-4)
        (grad,) = torch.autograd.grad(value, model[0].weight)
        (other,) = torch.autograd.grad(other, twin[0].weight)
        torch.testing.assert_close(other, grad, rtol=1e-3, atol=1e-4 * float(grad.abs().max()))


@pytest.mark.parametrize("name", ["mhe", "hs-mhe", "rp-comhe", "so", "srip"])
def test_descending_the_penalty_lowers_it(name):
    """Sign and direction: a few plain gradient steps lower the unprojected penalty of neurons that crowd."""
    model = nn.Sequential(nn.Linear(12, 6, bias=False), nn.Linear(6, 4, bias=False))
    nn.init.normal_(model[0].weight, mean=1.0, std=0.3)
    regularizer = small(name, model, output=None)
    watched = "hs-mhe" if name == "rp-comhe" else name
    before = create_regularizer(watched, model, output=None, seed=1)().item()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(20):
        optimizer.zero_grad()
        regularizer().backward()
        optimizer.step()
    assert create_regularizer(watched, model, output=None, seed=1)().item() < before


def test_shapes_of_a_penalty_of_ones_own_are_checked():
    class EachNeuron(Penalty):
        def value(self, w, layer, state, draws):
            return w.square().sum(-1)

    class Growing(Penalty):
        def init(self, w, layer, seed):
            return w.mean(-2)

        def update(self, w, layer, state, draws):
            return torch.cat((state, state))

        def value(self, w, layer, state, draws):
            return w.square().mean((-2, -1))

    model = nn.Linear(4, 3)
    with pytest.raises(UsageError, match=r"one value for each set of neurons, not \[3, 4\] -> \[3\]"):
        Regularizer(model, EachNeuron())()
    with pytest.raises(UsageError, match=r"a state of the same shape, not \[4\] -> \[8\]"):
        Regularizer(model, Growing())()


def test_weights_may_be_set_between_steps():
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
    regularizer = create_regularizer("so", model, weight=1.0, output_weight=0.0)
    value = regularizer().item()
    regularizer.weight = 3
    assert regularizer().item() == pytest.approx(3 * value)
    regularizer.weight = lambda step: 2.0 * step
    assert regularizer().item() == pytest.approx(4 * value)
    regularizer.weight = {"0": 5.0}
    assert [row.weight for row in regularizer.report().layers] == [5.0, 0.0]
    for wrong, message in (
        (-1, "weight must be a finite number >= 0"),
        ({"head": 1.0}, r"weight\['head'\] names no regularized layer; there are 0, 1"),
    ):
        with pytest.raises(UsageError, match=message):
            regularizer.weight = wrong
    with pytest.raises(UsageError, match="output_weight must be a finite number >= 0"):
        regularizer.output_weight = float("nan")
    regularizer.output_weight = 2.0
    assert [regularizer.weight_of(layer) for layer in regularizer.layers] == [5.0, 2.0]


class Detached(Penalty):
    def function(self, w):
        return w.detach().square().mean((-2, -1))


@pytest.mark.parametrize("together", [False, True])
def test_a_penalty_without_a_gradient_is_told_once(together, recwarn):
    model = nn.Linear(4, 3)
    regularizer = Regularizer(model, Detached())
    for _ in range(2):
        if together:
            regularizer.value_and_grad([model.weight], regularizer.draw())
        else:
            regularizer().backward()
    (told,) = recwarn
    assert str(told.message).startswith("Detached has no gradient and trains nothing: compute it from the neurons")
    assert told.filename == __file__


def test_what_needs_no_gradient_is_not_warned_of(recwarn):
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3))
    Regularizer(model, Detached(), weight=0.0)()
    create_regularizer("none", model, weight=1.0)()
    with torch.no_grad():
        Regularizer(model, Detached())()
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    Regularizer(model, Detached())(parameters)
    torch.func.grad(Regularizer(model, MHE()))(parameters)
    regularizer, name = Regularizer(model, MHE()), "0.weight"
    torch.vmap(lambda w: regularizer({name: w}))(torch.stack(2 * [parameters[name]]))
    regularizer = Regularizer(model, Detached())
    model.requires_grad_(False)
    regularizer()
    assert [str(warning.message) for warning in recwarn] == ["Detached is 0: all its layers are frozen"]


def test_what_is_not_a_penalty_or_a_value_of_one():
    for wrong, message in ((MHE, "not the class MHE; by name: create_regularizer"), ("mhe", "not 'mhe'; by name")):
        with pytest.raises(TypeError, match=f"penalty must be a Penalty such as MHE.., {message}"):
            Regularizer(nn.Linear(4, 3), wrong)
    for result, message in ((0.5, "float"), (None, "NoneType"), (torch.tensor(True), "torch.bool")):
        penalty = type("Mine", (Penalty,), {"function": lambda self, w, result=result: result})()
        with pytest.raises(TypeError, match=f"Mine must return a floating-point tensor, not {message}"):
            Regularizer(nn.Linear(4, 3), penalty)()


def test_what_a_regularizer_is_not_called_with():
    model = nn.Linear(4, 3)
    regularizer = create_regularizer("mhe", model)
    for wrong in (model, torch.ones(3, 4), list(model.parameters()), model.named_parameters()):
        with pytest.raises(TypeError, match=f"without arguments, or with a dictionary.*, not {type(wrong).__name__}$"):
            regularizer(wrong)
    assert regularizer.step == 0


@pytest.mark.parametrize("seed", [None, 0.5, "1"])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(UsageError, match=f"seed must be a whole number, not {seed!r}"):
        create_regularizer("mhe", nn.Linear(4, 3), seed=seed)


@pytest.mark.parametrize("name", [name for name in list_regularizers() if name != "none"])
def test_lost_weights_make_the_penalty_nan(name):
    model = nn.Linear(50, 8)
    regularizer = create_regularizer(name, model, output=None)
    for lost in ((3, 7), ...):
        model.weight.data[lost] = torch.nan
        assert regularizer().isnan()


def test_parameters_that_the_model_does_not_have_are_an_error():
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    for attached in (model, nn.DataParallel(model)):
        regularizer = create_regularizer("mhe", attached)
        with pytest.raises(UsageError, match=r"Sequential has no parameter '0.wieght'; did you mean 0.weight"):
            regularizer({"0.wieght": torch.randn(5, 6)})
        given = {name: p.detach() for name, p in attached.named_parameters()}
        torch.testing.assert_close(regularizer(given), regularizer().detach())

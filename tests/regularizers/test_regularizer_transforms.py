"""The regularizer inside torch's own transformations: compile, functional calls, pickling, the meta device."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn

from comhe.errors import UsageError
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


@pytest.mark.parametrize("name", list_regularizers())
def test_given_parameters_count_where_they_are(name):
    """An ensemble's base model is on the meta device, and its parameters are given."""
    model = network()
    given, real = dict(model.named_parameters()), create_regularizer(name, model)
    base = create_regularizer(name, copy.deepcopy(model).to("meta"))
    for _ in range(3):
        value, expected = base(given), real()
        assert value.device.type == "cpu"
        assert torch.equal(value, expected)
    found, wanted = (torch.autograd.grad(x, list(given.values()), allow_unused=True) for x in (value, expected))
    torch.testing.assert_close(found, wanted)


FUNCTIONAL = [*((name, {}) for name in list_regularizers() if name != "none"), ("rp-comhe", {"span": False})]
FUNCTIONAL += [("ap-comhe", {"loss": "angle"}), ("group-comhe", {"partition": "random"}), ("mgd", {"sample": 8})]


@pytest.fixture
def functional():
    """``functional(name, options)``: a new regularizer as a function, tensors for it, and its value and gradient."""

    def build(name, options):
        model = network().double()
        tensors = {key: value.detach() for key, value in model.named_parameters()}

        def new():
            return create_regularizer(name, model, **options)

        def plain(tensors):
            leaves = {key: value.clone().requires_grad_() for key, value in tensors.items()}
            value = new()(leaves)
            found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True, materialize_grads=True)
            return value.detach(), dict(zip(leaves, found, strict=True))

        return new, tensors, plain

    return build


@pytest.mark.parametrize(("name", "options"), FUNCTIONAL)
@pytest.mark.parametrize("transform", ["grad", "jacrev", "jvp", "vmap", "vmap of grad"])
def test_transforms_are_the_ordinary_value_and_gradient(functional, name, options, transform):
    new, tensors, plain = functional(name, options)
    value, gradient = plain(tensors)
    close = {"rtol": 1e-7, "atol": 1e-9 * max(float(g.abs().max()) for g in gradient.values())}
    if transform in ("grad", "jacrev"):
        torch.testing.assert_close(getattr(torch.func, transform)(new())(tensors), gradient, **close)
        return
    other = {key: 0.7 * x + 0.1 * x.roll(1, 0) for key, x in tensors.items()}
    if transform == "jvp":
        found, change = torch.func.jvp(new(), (tensors,), (other,))
        torch.testing.assert_close(found, value)
        expected = sum((gradient[key] * x).sum() for key, x in other.items())
        torch.testing.assert_close(change, expected, rtol=1e-7, atol=1e-7 * abs(float(value)))
        return
    both = {key: torch.stack([x, other[key]]) for key, x in tensors.items()}
    if transform == "vmap":
        torch.testing.assert_close(torch.func.vmap(new())(both), torch.stack([value, plain(other)[0]]))
    else:
        found = torch.func.vmap(torch.func.grad(new()))(both)
        torch.testing.assert_close({key: x[1] for key, x in found.items()}, plain(other)[1], **close)


@pytest.mark.parametrize(("name", "options"), [("rp-comhe", {"span": False}), ("srip", {}), ("hs-mhe", {"sample": 3})])
def test_second_derivatives_can_be_taken_again_and_again(functional, name, options):
    """What is drawn within a transform is kept for the next step, and must not be the transform's."""
    new, tensors, _ = functional(name, options)
    regularizer, (key, x) = new(), next(iter(tensors.items()))
    directions = torch.stack([x.roll(1, 0), x.roll(1, 1)])
    for _ in range(3):
        along = torch.func.hessian(lambda t: regularizer(tensors | {key: x + torch.tensordot(t, directions, 1)}))
        assert along(torch.zeros(2, dtype=x.dtype)).isfinite().all()


@pytest.mark.parametrize("name", ["mhe", "rp-comhe"])
def test_a_module_that_calls_its_regularizer_is_a_function_of_its_parameters(name):
    """functional_call puts plain tensors in, whose requires_grad says nothing of which layers are trained."""

    class Penalized(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 4)).double()
            self.net[1].requires_grad_(False)
            self.regularizer = create_regularizer(name, self.net)

        def forward(self):
            return self.regularizer()

    torch.manual_seed(0)
    value, module = Penalized(), Penalized()
    value.load_state_dict(module.state_dict())
    parameters = {key: p.detach() for key, p in module.named_parameters()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(torch.func.functional_call(module, parameters, ()), value().detach())


@pytest.mark.parametrize("name", ["adv-comhe", "ap-comhe", "mhc", "mhp"])
def test_what_is_learned_within_a_transform_is_a_plain_tensor(functional, name):
    new, tensors, _ = functional(name, {})
    plain, differentiated, batched = new(), new(), new()
    plain(tensors)
    torch.func.grad(differentiated)(tensors)
    untouched = {key: x.clone() for key, x in batched.named_buffers()}
    torch.func.vmap(batched)({key: torch.stack([x, -x]) for key, x in tensors.items()})
    for key, x in plain.named_buffers():
        torch.testing.assert_close(differentiated.get_buffer(key), x)
        assert batched.get_buffer(key).equal(untouched[key])  # each of the batch would have its own
    torch.testing.assert_close(differentiated(), plain())


@pytest.mark.parametrize(("name", "said"), [("rp-comhe", "span=False"), ("adv-comhe", "alternating")])
def test_second_derivatives_exist_or_say_what_to_do(functional, name, said):
    new, tensors, _ = functional(name, {})
    for second in (torch.func.hessian, lambda f: torch.func.jacrev(torch.func.grad(f))):
        with pytest.raises(UsageError, match=said) as caught:
            second(new())(tensors)
        assert "\n" not in str(caught.value)

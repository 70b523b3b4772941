"""What a step can do to short neurons is bounded; the gradient of a set of others is the penalty's own."""

import pytest
import torch
from torch import func, nn

from comhe.regularizers import create_regularizer, hyperspherical_energy, list_regularizers
from comhe.regularizers.bound import bound_gradient

DIRECTIONAL = [name for name in list_regularizers() if create_regularizer(name, nn.Linear(8, 4)).penalty.min_norm]


def rows(*lengths):
    """Rows of these lengths in random directions of 16 dimensions."""
    u = nn.functional.normalize(torch.randn(len(lengths), 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    return torch.tensor(lengths)[:, None] * u


def bounded(w, push, factor=1.0):
    """The gradient in w of factor * (sum of <push_i, w_i>)."""
    w = w.clone().requires_grad_()
    moved, zeros = bound_gradient(w, 0.01)
    (factor * ((moved * push).sum() + zeros)).sum().backward()
    return w.grad


def test_the_bound_is_ten_lengths_and_rises_with_the_shortest_neuron():
    push = 1e6 * torch.ones(3, 16)
    assert bounded(rows(1.0, 2.0, 0.0), push).norm(dim=-1).tolist() == pytest.approx([10.0, 20.0, 0.1], rel=1e-5)
    w = rows(1.0, 1.0, 0.2)
    raised = 1 - 0.04 / (w.square().sum().item() / 3 / 4)
    expected = [10 / raised, 10 / raised, 2 / raised]
    assert bounded(w, push).norm(dim=-1).tolist() == pytest.approx(expected, rel=1e-5)


def test_where_no_neuron_is_short_there_is_no_bound():
    w, push = rows(1.0, 1.0, 0.6), 1e6 * torch.ones(3, 16)
    assert torch.equal(bounded(w, push), push)


def test_a_smaller_gradient_is_left_as_it_is():
    w, push = rows(1.0, 1.0, 1e-3), 0.02 * torch.ones(3, 16)
    assert torch.equal(bounded(w, push), push)


def test_a_layer_of_short_neurons_is_bounded_too():
    w = rows(1e-3, 2e-3, 3e-3)
    assert bounded(w, 1e6 * torch.ones_like(w)).norm(dim=-1).tolist() == pytest.approx([0.1] * 3, rel=1e-2)


@pytest.mark.parametrize("factor", [-65536.0, 1e-3])
def test_the_bound_is_of_the_penalty_whatever_factor_it_has_in_the_loss(factor):
    w = rows(1.0, 1.0, 1e-3)
    push = 1e6 * torch.ones_like(w)
    torch.testing.assert_close(bounded(w, push, factor), factor * bounded(w, push))


def test_each_set_has_a_factor_of_its_own():
    w = torch.stack([rows(1.0, 1.0, 1e-3)] * 2)
    push, factors = 1e6 * torch.ones_like(w), torch.tensor([1.0, 3.0])
    w.requires_grad_()
    moved, zeros = bound_gradient(w, 0.01)
    (factors * ((moved * push).sum((-2, -1)) + zeros)).sum().backward()
    torch.testing.assert_close(w.grad[1], 3 * w.grad[0])


def test_gradients_of_gradients_where_only_one_set_has_a_bound():
    """The limits of the other are infinite, and its second derivatives those of no bound."""
    w = torch.stack([rows(1.0, 1.0, 1e-3), rows(1.0, 1.0, 1.0)]).requires_grad_()
    factor = torch.tensor(2.0, requires_grad=True)
    moved, zeros = bound_gradient(w, 0.01)
    (grad,) = torch.autograd.grad((factor * (100 * moved.pow(3).sum((-2, -1)) + zeros)).sum(), w, create_graph=True)
    second, slope = torch.autograd.grad(grad.sum(), (w, factor))
    torch.testing.assert_close(second[1], 1200 * w[1])
    assert second.isfinite().all()
    torch.testing.assert_close(slope, grad.sum() / factor)


def test_transforms_of_torch_func():
    w, push = torch.stack([rows(1.0, 1.0, 1e-3), rows(1.0, 1e-3, 1.0)]), 1e6 * torch.ones(3, 16)

    def penalty(w):
        moved, zeros = bound_gradient(w, 0.01)
        return (moved * push).sum() + zeros

    found = func.vmap(func.grad(penalty))(w)
    torch.testing.assert_close(found, torch.stack([bounded(one, push) for one in w]))
    assert func.jvp(penalty, (w[0],), (w[1],))[1] == pytest.approx((w[1] * push).sum().item())


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 15))


@pytest.mark.parametrize("half_space", [False, True])
def test_healthy_layers_have_the_gradient_of_the_energy_to_the_bit(half_space):
    model = network()
    create_regularizer("mhe", model, half_space=half_space, output_weight=0)().backward()
    w = model[0].weight.detach().requires_grad_()
    hyperspherical_energy(w, half_space=half_space).backward()
    assert torch.equal(model[0].weight.grad, w.grad)


@pytest.mark.parametrize("lr", [1e-3, 1e-1])
@pytest.mark.parametrize("layer", [0, 2])
@pytest.mark.parametrize("name", DIRECTIONAL)
def test_neurons_that_start_at_zero_beside_others_are_not_thrown(name, layer, lr):
    model = network()
    with torch.no_grad():
        model[layer].weight[10:] = 0
    options = {"dim": 6} if "comhe" in name and name != "group-comhe" else {}
    regularizer = create_regularizer(name, model, **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    x, y = torch.randn(64, 16), torch.randint(0, 15, (64,))
    for _ in range(12):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        (loss + regularizer()).backward()
        optimizer.step()
        assert loss < 3.5  # log 15 is 2.7; without the bound, up to 1e9
    assert model[layer].weight[10:].norm(dim=-1).max() < 2

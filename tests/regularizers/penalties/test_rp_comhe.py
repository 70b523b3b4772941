"""RP-CoMHE: what is projected, with what, when it is redrawn, and that a restart is not noticed."""

import io
import math

import pytest
import torch
from torch import nn

from comhe.regularizers import create_regularizer, hyperspherical_energy


def drawn(regularizer, index=0):
    return regularizer.penalty.projections(regularizer.layers[index], regularizer.draw()).clone()


@pytest.mark.parametrize("across", ["mean", "max"])
@pytest.mark.parametrize("half_space", [True, False])
@pytest.mark.parametrize("s", [0, 1, 2])
def test_value_and_gradient_equal_the_formula(projected, plain, across, half_space, s):
    model = projected()
    options = {"dim": 10, "count": 3, "across": across, "half_space": half_space, "s": s}
    regularizer = create_regularizer("rp-comhe", model, weight=0.5, output_weight=3.0, span=False, **options)
    wide, narrow, output = (layer.weight for layer in model)
    energies = torch.stack([plain(wide @ p.double().mT, s, half_space) for p in drawn(regularizer)])
    first = energies.mean() if across == "mean" else energies.max()
    expected = 0.5 * first + 0.5 * plain(narrow, s, half_space) + 3 * plain(output, s)  # unprojected, full space
    grads = torch.autograd.grad(expected, (wide, narrow, output))
    value = regularizer()
    assert value.item() == pytest.approx(expected.item(), rel=1e-11)
    for mine, theirs in zip(torch.autograd.grad(value, (wide, narrow, output)), grads, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("span", [False, True])
def test_layers_no_wider_than_dim_are_not_projected(projected, span):
    model = projected(wide=8)
    narrow = create_regularizer("rp-comhe", model, dim=8, span=span, output=None)
    plain = create_regularizer("hs-mhe", model, output=None)
    rows, others = narrow.report().layers, plain.report().layers
    assert rows[0].penalty == others[0].penalty
    assert rows[2].penalty != others[2].penalty  # d = 24, hidden here


def test_the_span_is_the_default_where_it_is_exact(projected):
    options = {"dim": 10, "count": 2, "output_weight": 0.0}
    for chosen, span in (({}, True), ({"eps": 1e-4}, False), ({"distribution": "ternary"}, False)):
        found, expected = (
            create_regularizer("rp-comhe", projected(), **options, **chosen, **more) for more in ({}, {"span": span})
        )
        assert drawn(found).shape[-1] == (8 if span else 24)
        assert drawn(found).equal(drawn(expected))


@pytest.mark.parametrize("redraw", [1, 3])
def test_projections_change_at_each_redraw_and_only_then(projected, redraw):
    model = projected()
    regularizer = create_regularizer("rp-comhe", model, dim=5, count=2, redraw=redraw)
    draws = []
    for _ in range(4 * redraw):
        draws.append(drawn(regularizer))
        regularizer.report()
        assert drawn(regularizer).equal(draws[-1])
        regularizer()
    for i, first in enumerate(draws):
        for j, second in enumerate(draws):
            assert first.equal(second) == (i // redraw == j // redraw)
    assert not draws[0][0].equal(draws[0][1])  # the C projections differ


def test_projections_depend_on_seed_and_draw_alone(projected):
    regularizer = create_regularizer("rp-comhe", projected(), dim=5, seed=3)
    torch.manual_seed(12345)  # as another rank, another model or another moment would have it
    other = create_regularizer("rp-comhe", projected(dtype=torch.float32), dim=5, seed=3)
    state = torch.get_rng_state()
    for _ in range(3):
        assert drawn(regularizer).equal(drawn(other))
        regularizer(), other()
    assert torch.get_rng_state().equal(state)  # the global generator is not touched
    regularizer.step = 17
    other.step = 17
    assert drawn(other).equal(drawn(regularizer))
    assert not drawn(create_regularizer("rp-comhe", projected(), dim=5, seed=4)).equal(drawn(other))


@pytest.mark.parametrize(("options", "same"), [({}, True), ({"shared": True}, True), ({"shared": False}, False)])
def test_projections_are_shared_by_width(options, same):
    model = nn.Sequential(nn.Linear(30, 6), nn.Linear(30, 9), nn.Linear(31, 6), nn.Linear(6, 2))
    regularizer = create_regularizer("rp-comhe", model, dim=5, span=False, **options)
    assert drawn(regularizer, 0).equal(drawn(regularizer, 1)) == same
    assert not drawn(regularizer, 0).equal(drawn(regularizer, 2)[..., :30])


@pytest.mark.parametrize("options", [{}, {"redraw": 3}, {"span": True}, {"distribution": "ternary"}])
def test_restored_run_is_the_uninterrupted_one(projected, options):
    model = projected(dtype=torch.float32)
    uninterrupted = create_regularizer("rp-comhe", model, dim=5, seed=3, **options)
    sequence = [uninterrupted().item() for _ in range(8)]
    first = create_regularizer("rp-comhe", model, dim=5, seed=3, **options)
    assert [first().item() for _ in range(4)] == sequence[:4]
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = create_regularizer("rp-comhe", model, dim=5, seed=99, **options)
    second()
    second.load_state_dict(torch.load(file, weights_only=True))
    assert [second().item() for _ in range(4)] == sequence[4:]


@pytest.mark.parametrize("distribution", ["gaussian", "ternary"])
def test_distribution_of_the_entries(projected, distribution):
    model = projected(wide=200)
    regularizer = create_regularizer("rp-comhe", model, dim=50, count=20, distribution=distribution, span=False)
    p = drawn(regularizer).double()
    n, kurtosis = p.numel(), 3.0  # of both: 3 is also 9 / 3
    assert abs(p.mean()) < 4 / n**0.5
    assert abs(p.square().mean() - 1) < 4 * ((kurtosis - 1) / n) ** 0.5
    neighbors = (p[..., 1:] * p[..., :-1]).mean()
    assert abs(neighbors) < 4 / n**0.5
    if distribution == "ternary":
        root = torch.tensor(math.sqrt(3), dtype=torch.float32).double()
        for value, probability in ((-root, 1 / 6), (torch.zeros(()), 2 / 3), (root, 1 / 6)):
            share = (p == value).double().mean().item()
            assert share == pytest.approx(probability, abs=4 * (probability * (1 - probability) / n) ** 0.5)
        assert p.unique().numel() == 3
    else:
        assert abs((p.abs() < 0.6744898).double().mean() - 0.5) < 4 * 0.5 / n**0.5


@pytest.mark.parametrize("epsilon", [0.5, 0.8])
@pytest.mark.parametrize("angle", [0.3, 1.0, 2.0])
def test_angles_are_preserved_with_the_stated_probability(projected, angle, epsilon):
    k, count = 40, 3000
    regularizer = create_regularizer("rp-comhe", projected(wide=60), dim=k, count=count, span=False)
    pair = torch.zeros(2, 60)
    pair[0, 0], pair[1, 0], pair[1, 1] = 1, math.cos(angle), math.sin(angle)
    images = pair @ drawn(regularizer).mT  # [count, 2, k]
    cosine = torch.cosine_similarity(images[:, 0], images[:, 1], dim=-1)
    low, high = (math.cos(angle) - epsilon) / (1 + epsilon), (math.cos(angle) + epsilon) / (1 - epsilon)
    bound = (1 - 2 * math.exp(-k * epsilon**2 / 8)) ** 2
    assert ((low < cosine) & (cosine < high)).double().mean() >= bound
    assert cosine.mean() == pytest.approx(math.cos(angle), abs=0.03)


def test_groups_of_a_convolution_are_projected_each(plain):
    model = nn.Sequential(nn.Conv2d(8, 6, 3, groups=2), nn.Linear(4, 2)).double()
    regularizer = create_regularizer("rp-comhe", model, dim=10, count=2, span=False)
    w = model[0].weight.view(2, 3, 36)
    expected = sum(plain(w[g] @ p.double().mT, 2, True) for g in range(2) for p in drawn(regularizer)) / 4
    assert regularizer.report().layers[0].penalty == pytest.approx(expected.item(), rel=1e-11)


def test_reported_energies_are_unprojected(projected):
    model = projected()
    row = create_regularizer("rp-comhe", model, dim=5).report().layers[0]
    assert row.diagnostics.half_space_energy == hyperspherical_energy(model[0].weight, 2, True).item()
    assert row.diagnostics.energy == hyperspherical_energy(model[0].weight).item()
    assert row.penalty != row.diagnostics.half_space_energy


@pytest.mark.parametrize(
    "options",
    [
        {"dim": 1},
        {"count": 0},
        {"redraw": 0},
        {"distribution": "uniform"},
        {"across": "median"},
        {"span": True, "distribution": "ternary"},
    ],
)
def test_wrong_options(projected, options):
    with pytest.raises(ValueError, match="|".join(options)):
        create_regularizer("rp-comhe", projected(), **options)

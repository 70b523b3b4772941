"""The Triton kernels, on the GPU where there is one and in Triton's interpreter elsewhere, against float64."""

import math
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

from comhe.regularizers import create_regularizer, hyperspherical_energy
from comhe.regularizers.energies.energy import neuron_sums
from comhe.regularizers.energies.potential import Potential
from comhe.regularizers.energies.terms import Terms

kernels = pytest.importorskip("comhe.regularizers.energies.kernels")
pytest.importorskip("triton", reason="there is no Triton for this platform")

LAYERS = ((2, 70, 30), (1, 33, 5), (1, 9, 130), (3, 20, 141))  # sets, neurons, dimensions; narrow and wide


def terms(s=2, half_space=True, eps=0.0, min_norm=0.0, precision="fp32"):
    return Terms(Potential(float(s), False, half_space), eps, min_norm, precision=precision)


def oracle(w, s, half_space, eps=0.0, min_norm=0.0):
    """Sums of the potential over the pairs of each set, from the distances themselves; differentiable.

    In the half space with what the antipodes of short neurons differ by.
    """
    squared = (w.square().sum(-1, keepdim=True) + eps).clamp_min(min_norm**2)
    alive = squared > 0  # a neuron without direction is not pushed
    u = w.where(alive, 0.0) / squared.where(alive, 1.0).sqrt()
    i, j = torch.triu_indices(u.shape[-2], u.shape[-2], offset=1, device=w.device)
    floor = Potential(s).floor(torch.float32)

    def potential(z):
        x = z.clamp_min(floor)
        value = -x.log() if s == 0 else x ** (-s / 2)
        return value - (s / 2 * value / x if s else 1 / x) * (z - x)

    c = (u[..., i, :] * u[..., j, :]).sum(-1)
    values = potential(2 - 2 * c)
    if half_space:
        values = 2 * (values + potential(2 + 2 * c))
    sums = values.sum(-1)
    if half_space and (eps or min_norm):
        length = u.square().sum(-1)
        sums = sums + (potential(2 + 2 * length) - potential(torch.full_like(length, 4))).sum(-1)
    return sums


def layers(normal, device):
    made = [normal(*shape, seed=seed, dtype=torch.float32).to(device) for seed, shape in enumerate(LAYERS)]
    made[0][0, 3] = 2 * made[0][0, 5] + 0.02 * made[0][0, 6]  # nearly parallel
    made[3][1, 7] = -made[3][1, 2] + 0.05 * made[3][1, 3]  # nearly antiparallel
    made[1][0, 2] = 0
    made[2][0, 8] = 0
    return made


@pytest.mark.parametrize(
    ("s", "eps", "min_norm", "half_space"),
    [
        (2, 0.0, 0.0, True),
        (2, 0.3, 0.0, True),
        (2, 0.0, 5.0, True),  # some neurons are shorter
        (2, 0.0, 5.0, False),
        (0, 0.1, 0.0, True),
        (0, 0.1, 5.0, True),
        (0, 0.0, 0.0, False),
        (1, 0.0, 0.01, True),
        (1.5, 0.1, 0.0, False),
    ],
)
def test_energies_and_gradients_of_a_ragged_batch(normal, device, s, eps, min_norm, half_space):
    made = layers(normal, device)
    factors = torch.tensor([1.0, 2.0, 0.5, 3.0], device=device)
    kind = terms(s, half_space, eps, min_norm)
    sums, gradients = kernels.energy_sums(made, kind, factors)
    without, none = kernels.energy_sums(made, kind, with_gradient=False)
    assert none == [None] * 4
    for w, total, again, gradient, factor in zip(made, sums, without, gradients, factors, strict=True):
        exact = w.double().requires_grad_()
        expected = oracle(exact, s, half_space, eps, min_norm)
        (slope,) = torch.autograd.grad(expected.sum(), exact)
        torch.testing.assert_close(total.double(), expected.detach(), rtol=2e-5, atol=0)
        torch.testing.assert_close(again, total, rtol=1e-6, atol=0)
        error = (gradient.double() - factor * slope).norm() / (factor * slope).norm()
        assert error < 1e-4, f"{list(w.shape)}: {error:.1e}"


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's, of what a GPU computes in silence
@pytest.mark.parametrize("lost", [torch.nan, torch.inf, -torch.inf])
def test_neurons_that_are_lost_have_no_energy(normal, device, lost):
    made = layers(normal, device)[::3]  # of two sets each
    for w in made:
        w[0, 3, 2] = lost
    for eps, min_norm in ((0.0, 0.0), (0.1, 0.0), (0.0, 5.0)):
        sums, gradients = kernels.energy_sums(made, terms(2, True, eps, min_norm))
        assert all(total[0].isnan() and total[1:].isfinite().all() for total in sums)
        assert all(gradient[0].isnan().any() for gradient in gradients)


@pytest.mark.parametrize("programs", [1, 1000])
def test_wide_neurons_in_any_number_of_parts(normal, device, monkeypatch, programs):
    """Sets of several tiles and parts, aligned and not; near pairs in a tile and across."""
    wide = pytest.importorskip("comhe.regularizers.energies.kernels.wide")
    monkeypatch.setattr(wide, "PROGRAMS", programs)
    made = [normal(*shape, dtype=torch.float32).to(device) for shape in ((1, 68, 132), (2, 8, 200), (1, 66, 129))]
    made[0][0, 65] = -3 * made[0][0, 2] + 0.05 * made[0][0, 3]
    made[2][0, 65] = 2 * made[2][0, 64] + 0.05 * made[2][0, 7]
    sums, gradients = kernels.energy_sums(made, terms())
    for w, total, gradient in zip(made, sums, gradients, strict=True):
        exact = w.double().requires_grad_()
        expected = oracle(exact, 2, True)
        (slope,) = torch.autograd.grad(expected.sum(), exact)
        torch.testing.assert_close(total.double(), expected.detach(), rtol=2e-5, atol=0)
        assert (gradient.double() - slope).norm() / slope.norm() < 1e-4
    if device.type == "cuda":  # the interpreter takes programs one after the other
        again, same = kernels.energy_sums(made, terms())
        assert all(map(torch.equal, [*sums, *gradients], [*again, *same]))


@pytest.mark.parametrize("d", [40, 200])
@pytest.mark.parametrize("sign", [1, -1])
def test_nearly_parallel_pairs_keep_their_digits(normal, device, d, sign):
    w = normal(1, 20, d)
    w = w / w.norm(dim=-1, keepdim=True)
    aside = w[0, 1] - (w[0, 1] @ w[0, 0]) * w[0, 0]
    w[0, 1] = sign * (w[0, 0] + 0.005 * aside / aside.norm())  # a third of a degree apart: cosine 1 - 1.25e-5
    w = w.float().to(device)
    exact = w.double().requires_grad_()
    expected = oracle(exact, 2, True)
    (slope,) = torch.autograd.grad(expected.sum(), exact)
    (total,), (gradient,) = kernels.energy_sums([w], terms())
    assert abs(total.item() / expected.item() - 1) < 2e-4  # 2^-20 / angle
    assert (gradient.double() - slope).norm() / slope.norm() < 4e-4


@pytest.mark.parametrize("d", [5, 130])
@pytest.mark.parametrize("half_space", [False, True])
def test_pairs_of_any_angle_are_as_on_the_ordinary_way(normal, device, d, half_space):
    """Down to 1e-6 within the rounding of differences, 2^-21 / angle; below, and at 0, there is no push."""
    for angle in (0.0, 1e-7, 2e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5):
        w = torch.nn.functional.normalize(normal(1, 9, d), dim=-1)
        aside = torch.nn.functional.normalize(w[0, 1] - (w[0, 1] @ w[0, 0]) * w[0, 0], dim=0)
        w[0, 1] = (math.cos(angle) * w[0, 0] + math.sin(angle) * aside) * (-3 if half_space else 3)
        w = w.float().to(device)
        (total,), (gradient,) = kernels.energy_sums([w], terms(half_space=half_space))
        expected = neuron_sums(w.cpu().double(), replace(terms(half_space=half_space), rows=torch.float32), True)
        torch.testing.assert_close(total.cpu().double(), expected.energy, rtol=2e-5 + 1e-6 / max(angle, 1e-3), atol=0)
        slope = expected.product(w.cpu().double())
        if angle < 1e-6:
            alone = torch.cat((w[:, :1], w[:, 2:]), 1)
            others = neuron_sums(alone.cpu().double(), terms(half_space=half_space), True).product(alone.cpu().double())
            assert gradient.norm() < 10 * others.norm()
        else:
            error = (gradient.cpu().double() - slope).norm() / slope.norm()
            assert error < 1e-5 + 2**-20 / angle, f"at an angle of {angle}: {error:.1e}"


def test_duplicates_are_finite_and_pushed_by_nothing_but_the_others(normal, device):
    w = normal(1, 12, 30, dtype=torch.float32).to(device)
    w[0, 4] = w[0, 9]
    (total,), (gradient,) = kernels.energy_sums([w], terms())
    assert torch.isfinite(total).all()
    assert torch.isfinite(gradient).all()
    assert total.item() > 1e5
    turning = (gradient * w).sum(-1).abs() / (gradient.norm(dim=-1) * w.norm(dim=-1))
    assert turning[0, [0, 1, 2, 3]].max() < 1e-5


def test_the_faster_mode_is_less_exact_and_near(normal, device):
    w = normal(1, 70, 40, dtype=torch.float32).to(device)
    (exact,), _ = kernels.energy_sums([w], terms())
    (fast,), (gradient,) = kernels.energy_sums([w], terms(precision="tf32"))
    assert fast.item() != exact.item()
    assert abs(fast.item() / exact.item() - 1) < 2e-3
    assert torch.isfinite(gradient).all()
    with pytest.raises(ValueError, match="'fp32' or 'tf32', not 'fp16'"):
        hyperspherical_energy(w, precision="fp16")


@pytest.fixture
def chosen(monkeypatch, device):
    """Makes the kernels take tensors wherever they are; without it, on the CPU, the ordinary way is taken."""

    def choose():
        for module in ("penalties.energy_penalty", "energies.kernels", "bound"):
            monkeypatch.setattr(sys.modules[f"comhe.regularizers.{module}"], "runs_on", lambda device: True)

    return choose


def network():
    return nn.Sequential(
        nn.Conv2d(3, 24, 3),
        nn.Conv2d(24, 32, 3, groups=2),
        nn.Flatten(),
        nn.Linear(150, 20),
        nn.Linear(20, 16),
        nn.Linear(16, 7),
    )


def penalty_and_gradients(name, **options):
    torch.manual_seed(3)
    model = network()
    regularizer = create_regularizer(name, model, **options)
    values = []
    for step in range(2 if name == "ap-comhe" or {"sample", "redraw"} & options.keys() else 1):
        if step:
            regularizer.report()  # looks at the step to come, and changes nothing
        value = regularizer()
        values.append(value.item())
    value.backward()
    return values, {k: p.grad for k, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mhe", {}),
        ("hs-mhe", {"s": 0, "reduction": "sum", "weight": 0.5}),
        ("hs-mhe", {"eps": 1e-4}),
        ("hs-mhe", {"geodesic": True}),
        ("hs-mhe", {"sample": 10}),
        ("rp-comhe", {"dim": 8, "count": 3}),
        ("rp-comhe", {"dim": 20, "count": 2, "shared": False, "output_weight": 0.0}),
        ("rp-comhe", {"dim": 8, "count": 2, "eps": 1e-4}),
        ("rp-comhe", {"dim": 8, "count": 2, "span": False}),
        ("rp-comhe", {"dim": 8, "count": 2, "across": "max"}),
        ("rp-comhe", {"dim": 140, "count": 1}),  # wide ones after the projection
        ("rp-comhe", {"dim": 8, "count": 2, "span": True}),
        ("rp-comhe", {"dim": 8, "count": 2, "redraw": 2, "distribution": "ternary"}),
        ("ap-comhe", {"dim": 8}),
        ("group-comhe", {"groups": 2}),
    ],
)
def test_regularizers_are_the_same_through_the_kernels(chosen, name, options):
    if torch.cuda.is_available():
        pytest.skip("compares the CPU's two ways, whose random numbers are the same")
    values, slopes = penalty_and_gradients(name, **options)
    chosen()
    again, others = penalty_and_gradients(name, **options)
    assert again == pytest.approx(values, rel=1e-4)
    assert slopes.keys() == others.keys()
    for key, slope in slopes.items():
        torch.testing.assert_close(others[key], slope, rtol=1e-3, atol=1e-4 * slope.abs().max().item())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("hs-mhe", {"weight": lambda step: step / 2}),
        ("rp-comhe", {"dim": 8, "count": 2, "redraw": 2}),
        ("ap-comhe", {"dim": 8}),
    ],
)
def test_capturable_steps_are_the_ordinary_ones(chosen, name, options, device):
    chosen()
    models = [network().to(device), network().to(device)]
    models[1].load_state_dict(models[0].state_dict())
    ordinary, capturable = (create_regularizer(name, model, **options) for model in models)
    capturable.capturable = True
    pools = set()
    for _ in range(3):
        expected = ordinary.value_and_grad(list(models[0].parameters()), ordinary.draw())
        draws = capturable.draw()
        found = capturable.value_and_grad(list(models[1].parameters()), draws)
        pools |= {draws["all projections"].data_ptr()} if name == "rp-comhe" else set()
        for one, other in zip([expected[0], *expected[1]], [found[0], *found[1]], strict=True):
            assert (one is None) == (other is None) or other.count_nonzero() == 0
            if one is not None:
                torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-7)
        ordinary.step, capturable.step = ordinary.step + 1, capturable.step + 1
    assert len(pools) <= 1


def test_the_whole_penalty_can_be_differentiated_twice(chosen, device):
    """As where a loss is penalized by its gradient, which then has the penalty's in it."""

    def curvature():
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(40, 12), nn.Linear(12, 5)).to(device)
        w = model[0].weight
        (slope,) = torch.autograd.grad(create_regularizer("hs-mhe", model, weight=0.5)(), w, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), w)[0]

    expected = curvature()
    chosen()
    torch.testing.assert_close(curvature(), expected, rtol=1e-3, atol=1e-6)


def test_a_first_derivative_with_a_graph_is_that_without(chosen, device):
    """Also where one layer's weights are computed from another's: no path counts twice."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 5)).to(device)
    w = model[0].weight

    def slope(**options):
        regularizer = create_regularizer("hs-mhe", model, min_norm=0.0)
        value = regularizer({"0.weight": w, "1.weight": w @ w.mT})
        return torch.autograd.grad(value, w, **options)[0]

    expected = slope()
    chosen()
    torch.testing.assert_close(slope(), expected, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(slope(create_graph=True), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"eps": 1e-4}])
def test_forward_mode_of_the_whole_penalty(chosen, device, options):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(12, 9), nn.Linear(9, 5)).to(device)
    changes = {name: torch.ones_like(p) for name, p in model.named_parameters() if p.dim() > 1}

    def slope():
        with forward_ad.dual_level():
            named = {n: forward_ad.make_dual(model.get_parameter(n).detach(), x) for n, x in changes.items()}
            return forward_ad.unpack_dual(create_regularizer("hs-mhe", model, **options)(named)).tangent

    expected = slope()
    chosen()
    torch.testing.assert_close(slope(), expected, rtol=1e-3, atol=1e-6)


def test_a_batch_of_one_layer_alone_takes_the_ordinary_way(chosen, device):
    model = nn.Sequential(nn.Linear(12, 9), nn.Linear(9, 5)).to(device)
    regularizer = create_regularizer("hs-mhe", model, eps=1e-4)
    batch = torch.stack([model[1].weight.detach(), 2 * model[1].weight.detach() + 1])
    expected = torch.stack([regularizer({"1.weight": w}) for w in batch])
    chosen()
    torch.testing.assert_close(torch.vmap(lambda w: regularizer({"1.weight": w}))(batch), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", ["hs-mhe", "rp-comhe", "mma"])
def test_a_penalty_may_be_looked_at_in_inference_mode_first(chosen, device, name):
    """What is kept on the device for other steps is made so that they can be differentiated."""
    chosen()
    torch.manual_seed(3)
    weight = torch.rand(()).item()  # a weight of no other test: nothing is kept of it yet
    model = nn.Sequential(nn.Linear(30, 9), nn.Linear(9, 5)).to(device)
    options = {"dim": 8, "count": 2} if name == "rp-comhe" else {}
    regularizer = create_regularizer(name, model, weight=weight, **options)
    with torch.inference_mode():
        regularizer()
    regularizer().backward()
    assert model[0].weight.grad.isfinite().all()


def test_layers_are_joined_only_where_they_share_their_draws(chosen, device):
    """Of layers that are represented by some of their neurons, one may have the draws of its width and one its own."""
    chosen()
    model = nn.Sequential(nn.Linear(60, 20), nn.ReLU(), nn.Linear(50, 100), nn.Linear(100, 5)).to(device)
    regularizer = create_regularizer("rp-comhe", model, dim=8, count=2, sample=30)
    parts = sum(weight * value for _, weight, value in regularizer.layer_penalties(regularizer.draw()))
    assert regularizer().item() == pytest.approx(parts.item(), rel=1e-4)


def test_layers_take_turns(chosen, device):
    """The gradient of one layer does not read another, which may have been changed since."""
    chosen()
    model = nn.Sequential(nn.Linear(12, 9), nn.Linear(9, 5)).to(device)
    first, second = (layer.weight for layer in model)
    value = create_regularizer("hs-mhe", model)()
    (slope,) = torch.autograd.grad(value, first, retain_graph=True)
    with torch.no_grad():
        first -= slope
    assert torch.autograd.grad(value, second)[0].isfinite().all()


def test_no_gradient_is_computed_where_none_is_wanted(chosen, device):
    chosen()
    regularizer = create_regularizer("hs-mhe", network().to(device))
    with torch.no_grad():
        value = regularizer()
    assert not value.requires_grad
    assert torch.isfinite(value)


def test_the_gradient_of_the_gradient_takes_the_ordinary_way(chosen, normal, device):
    w = normal(12, 6, dtype=torch.float32).to(device)
    v = normal(12, 6, seed=1, dtype=torch.float32).to(device)

    def curvature():
        x = w.clone().requires_grad_()
        (slope,) = torch.autograd.grad(hyperspherical_energy(x), x, create_graph=True)
        return torch.autograd.grad((slope * v).sum(), x)[0]

    expected = curvature()
    chosen()
    torch.testing.assert_close(curvature(), expected, rtol=1e-4, atol=1e-6)


def test_numbers_that_32_bits_cannot_count_are_refused_or_divided(monkeypatch):
    """Offsets of 32 bits would wrap and corrupt memory in silence."""
    monkeypatch.setattr(kernels, "runs_on", lambda device: True)

    def takes(*shape):
        return kernels.usable(torch.empty(shape, device="meta"), Potential(2.0, False, True))

    assert takes(2**24 - 128, 65)
    assert not takes(2**24, 65)  # padded to 2^31 numbers
    assert not takes(2**18, 128, 40)
    assert takes(46_336, 46_336)
    assert not takes(46_341, 46_341)  # the matrix of all pairs
    assert not takes(4096, 2**19)
    layers = [torch.empty(8, 2**20, 64, device="meta") for _ in range(6)] + [torch.empty(1, 9, 200, device="meta")]
    layers.append(torch.empty(1, 8, 200, device="meta"))
    assert kernels._batches(layers, "narrow") == [[0, 1, 2], [3, 4, 5]]
    assert kernels._batches(layers, "wide, unaligned") == [[6]]
    assert kernels._batches(layers, "wide") == [[7]]

"""The matrix view: row i must hold exactly the parameters that make output channel i."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from comhe.errors import UsageError
from comhe.regularizers import NoNeuronsError, create_regularizer, neurons, register_neurons
from comhe.regularizers.selection import select


def support(outputs, parameter):
    """Where the parameter has an influence on the outputs."""
    weights = torch.linspace(0.5, 1.5, outputs.numel()).view(outputs.shape).to(outputs)
    return torch.autograd.grad((outputs * weights).sum(), parameter, retain_graph=True)[0] != 0


def rows(module):
    view = neurons(module)
    return view, view.flatten(0, -2)


X1, X2, X3 = (9,), (9, 8), (5, 6, 5)
CONVOLUTIONS = [
    (nn.Conv1d(4, 6, 3), X1, (6, 12)),
    (nn.Conv2d(4, 6, (3, 2), padding=1), X2, (6, 24)),
    (nn.Conv3d(4, 6, 2), X3, (6, 32)),
    (nn.Conv1d(4, 6, 3, groups=2), X1, (2, 3, 6)),
    (nn.Conv2d(6, 6, 3, groups=3, bias=False), X2, (3, 2, 18)),
    (nn.Conv3d(4, 6, 2, groups=2), X3, (2, 3, 16)),
    (nn.Conv2d(4, 4, 3, groups=4), X2, (4, 9)),
    (nn.Conv2d(4, 8, 3, groups=4), X2, (8, 9)),
    (nn.Conv1d(1, 5, 4), X1, (5, 4)),
    (nn.ConvTranspose1d(4, 6, 3), X1, (6, 12)),
    (nn.ConvTranspose2d(4, 6, (3, 2), stride=2), X2, (6, 24)),
    (nn.ConvTranspose3d(4, 6, 2), X3, (6, 32)),
    (nn.ConvTranspose1d(4, 6, 3, groups=2), X1, (2, 3, 6)),
    (nn.ConvTranspose2d(6, 6, 3, groups=3), X2, (3, 2, 18)),
    (nn.ConvTranspose3d(4, 6, 2, groups=2), X3, (2, 3, 16)),
    (nn.ConvTranspose2d(4, 4, 3, groups=4), X2, (4, 9)),
    (nn.ConvTranspose2d(4, 8, 3, groups=4), X2, (8, 9)),
]


@pytest.mark.parametrize(("module", "size", "shape"), CONVOLUTIONS, ids=lambda value: repr(value)[:60])
def test_rows_of_convolutions(normal, module, size, shape):
    view, flat = rows(module)
    assert view.shape == shape
    y = module(normal(2, module.in_channels, *size, dtype=torch.float32))
    for channel in range(module.out_channels):
        assert support(flat[channel], module.weight).equal(support(y[:, channel], module.weight))
    # norms and inner products are the filters' own: nothing is repeated, left out or scaled
    assert view.square().sum().item() == pytest.approx(module.weight.square().sum().item(), rel=1e-6)


@pytest.mark.parametrize("module", [nn.Conv2d(4, 6, 3, groups=2), nn.ConvTranspose2d(4, 6, 3, groups=2)])
def test_changing_a_row_changes_its_channel_alone(normal, module):
    x = normal(2, 4, 8, 8, dtype=torch.float32)
    before = module(x).detach()
    for channel in range(6):
        changed, saved = neurons(module).flatten(0, 1)[channel], module.weight.detach().clone()
        (step,) = torch.autograd.grad(changed.sum(), module.weight)
        with torch.no_grad():
            module.weight += step
            moved = (module(x) - before).abs().amax(dim=(0, 2, 3)) > 1e-6
            module.weight.copy_(saved)
        assert moved.nonzero().flatten().tolist() == [channel]


def test_dimensions_of_all_rows_are_aligned(normal):
    """Column j is the same input entry for every neuron of a set: equal filters are equal rows."""
    for module in (nn.Conv2d(3, 5, 2), nn.ConvTranspose2d(3, 5, 2)):
        channels = 0 if isinstance(module, nn.Conv2d) else 1
        one = normal(3, 2, 2, dtype=torch.float32)
        module.weight.data = torch.stack([one] * 5, dim=channels)
        assert neurons(module).equal(one.flatten().expand(5, -1))


def test_linear_bilinear_and_embedding(normal):
    linear = nn.Linear(4, 3)
    assert neurons(linear).equal(linear.weight)
    bilinear = nn.Bilinear(3, 4, 5)
    y = bilinear(normal(2, 3, dtype=torch.float32), normal(2, 4, dtype=torch.float32))
    assert neurons(bilinear).shape == (5, 12)
    for channel in range(5):
        mine = support(neurons(bilinear)[channel], bilinear.weight)
        assert mine.equal(support(y[:, channel], bilinear.weight))


@pytest.mark.parametrize("cls", [nn.Embedding, nn.EmbeddingBag])
@pytest.mark.parametrize("pad", [None, 0, 3, -1])
def test_embedding_without_its_padding_entry(cls, pad):
    module = cls(6, 4, padding_idx=pad)
    kept = [i for i in range(6) if pad is None or i != pad % 6]
    view = neurons(module)
    assert view.shape == (len(kept), 4)
    for row, index in enumerate(kept):
        y = module(torch.tensor([[index]] if cls is nn.EmbeddingBag else [index]))
        assert support(view[row], module.weight).equal(support(y, module.weight))


def test_attention(normal):
    module = nn.MultiheadAttention(8, 2, batch_first=True, bias=False)
    nn.init.eye_(module.out_proj.weight)
    view = neurons(module)
    assert view.shape == (3, 8, 8)
    x = normal(1, 5, 8, dtype=torch.float32)
    y = module(x, x, x, need_weights=False)[0]
    for channel in range(8):
        used = support(y[..., channel], module.in_proj_weight)
        assert (support(view[2, channel], module.in_proj_weight) & ~used).sum() == 0
        assert used[16:].sum() == 8  # of the values only this row
        head = slice(channel // 4 * 4, channel // 4 * 4 + 4)
        expected = support(view[:2, head], module.in_proj_weight) | support(view[2, channel], module.in_proj_weight)
        assert used.equal(expected)
    unequal = nn.MultiheadAttention(8, 2, kdim=4)
    with pytest.raises(NoNeuronsError, match=r"q_proj_weight, k_proj_weight.*choose one with part= \(kdim"):
        neurons(unequal)
    assert neurons(unequal, part="k_proj_weight") is unequal.k_proj_weight


@pytest.mark.parametrize(("name", "gates"), [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
@pytest.mark.parametrize("cell", [False, True])
def test_recurrent(normal, name, gates, cell):
    module = getattr(nn, name + "Cell" * cell)(4, 5)
    weight = module.weight_ih if cell else module.weight_ih_l0
    view = neurons(module)
    assert view.shape == ((5, 4) if gates == 1 else (gates, 5, 4))
    state = normal(2, 5, dtype=torch.float32) if cell else normal(1, 2, 5, dtype=torch.float32)
    x = normal(2, 4, dtype=torch.float32) if cell else normal(1, 2, 4, dtype=torch.float32)
    y = module(x, (state, state) if name == "LSTM" else state)
    y = (y if name != "LSTM" else y[0]) if cell else y[0][0]
    for unit in range(5):
        assert support(view.view(gates, 5, 4)[:, unit], weight).equal(support(y[:, unit], weight))


def weight_normed(module):
    with pytest.warns(FutureWarning):
        return nn.utils.weight_norm(module)


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, weight_normed])
@pytest.mark.parametrize("cls", [nn.Linear, lambda a, b: nn.Conv2d(a, b, 3), lambda a, b: nn.ConvTranspose2d(a, b, 3)])
def test_weight_norms_are_read_as_they_are_used(normal, wrap, cls):
    model = nn.Sequential(wrap(cls(6, 4)), nn.Linear(4, 3))
    regularizer = create_regularizer("hs-mhe", model)
    assert [layer.name for layer in regularizer.layers] == ["0", "1"]
    for _ in range(2):  # no stale graph: a second backward without a forward of the model
        regularizer().backward()
    behind = [p for name, p in model[0].named_parameters() if "bias" not in name]
    assert behind
    assert any(p.grad.abs().max() > 0 for p in behind)
    with torch.no_grad():
        for p in behind:
            p.add_(normal(*p.shape, dtype=p.dtype))
    shape = (2, 6) if isinstance(model[0], nn.Linear) else (2, 6, 5, 5)
    model[0](torch.zeros(shape))  # older weight norm sets .weight here only
    view = neurons(model[0])
    transposed = isinstance(model[0], nn.ConvTranspose2d)
    fresh = model[0].weight.transpose(0, 1) if transposed else model[0].weight
    torch.testing.assert_close(view, fresh.flatten(1))


def test_spectral_norm_parametrization():
    model = nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 4)), nn.Linear(4, 3)).eval()
    model[0].parametrizations.weight.original.data[1] *= 5
    regularizer = create_regularizer("mhe", model)
    torch.testing.assert_close(neurons(model[0]), model[0].weight)
    regularizer().backward()
    assert model[0].parametrizations.weight.original.grad.abs().max() > 0


def test_report_leaves_spectral_norm_alone():
    model = nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 4)), nn.Linear(4, 3))
    regularizer = create_regularizer("mhe", model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    regularizer.report()
    assert all(value.equal(before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("module", "name"), [(nn.MultiheadAttention(8, 2), "in_proj_weight"), (nn.LSTM(8, 4), "weight_ih_l0")]
)
def test_other_parametrized_weights_are_not_called_frozen(module, name):
    model = nn.Sequential(parametrizations.weight_norm(module, name), nn.Linear(8, 3))
    assert create_regularizer("mhe", model).layers[0].name == "0"


def test_older_weight_norm_of_a_recurrent_layer():
    with pytest.warns(FutureWarning):
        model = nn.Sequential(nn.utils.weight_norm(nn.LSTM(8, 4), "weight_ih_l0"), nn.Linear(4, 3))
    regularizer = create_regularizer("mhe", model)
    regularizer().backward()
    regularizer().backward()


def test_what_has_no_view_says_why():
    with pytest.raises(NoNeuronsError, match="ReLU has no weight matrix"):
        neurons(nn.ReLU())
    for lazy in (nn.LazyLinear(3), nn.LazyConv2d(3, 3)):
        with pytest.raises(NoNeuronsError, match="lazy: run one forward pass"):
            neurons(lazy)
    lazy = nn.LazyLinear(3)
    lazy(torch.ones(1, 5))
    assert neurons(lazy).shape == (3, 5)


def test_a_weight_that_something_else_sets_later_is_skipped_with_a_reason():
    """As WeightDrop of AWD-LSTM does: what it gives the layer in ``forward`` is not there before."""
    linear, recurrent, none = nn.Linear(6, 8), nn.LSTM(6, 8), nn.Linear(6, 8)
    del linear._parameters["weight"], recurrent._parameters["weight_ih_l0"]
    none.weight = None
    layers, skipped = select(nn.ModuleDict({"a": linear, "b": recurrent, "c": none, "last": nn.Linear(8, 3)}))
    assert [layer.name for layer in layers] == ["last"]
    later = "which something else gives it: call the model once before"
    assert {item.name: item.reason for item in skipped} == {
        "a": f"Linear has no weight, {later}",
        "b": f"LSTM has no weight_ih_l0, {later}",
        "c": f"Linear has None for a weight, {later}",
    }


def test_own_rules_are_added_once_and_inherited():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 3, 2))

    with pytest.raises(NoNeuronsError):
        neurons(Table())
    register_neurons(Table)(lambda module: module.weight.flatten(1))
    assert neurons(Table()).shape == (4, 6)
    assert neurons(type("Subclass", (Table,), {})()).shape == (4, 6)
    for taken in (Table, nn.Linear, "torch_geometric.nn.dense.linear.Linear"):
        with pytest.raises(ValueError, match="already has"):
            register_neurons(taken)(lambda module: module.weight)
    with pytest.raises(TypeError, match=r"write @register_neurons\(MyLayer\), not <function"):
        register_neurons(lambda module: module.weight)
    with pytest.raises(UsageError, match=r"'Table' names no class; .* 'my_package.Table'"):
        register_neurons("Table")


def test_a_rule_that_is_defined_again_replaces_itself():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 3, 2))

    def cell(start):  # of a notebook
        text = f"@register_neurons(Table)\ndef view(module): return module.weight.flatten({start})"
        exec(text, {"__name__": "__main__", "register_neurons": register_neurons, "Table": Table})

    cell(0)
    with pytest.raises(UsageError, match=r"must return a tensor \[..., N, d\]"):
        neurons(Table())
    cell(1)
    assert neurons(Table()).shape == (4, 6)


def test_a_parametrization_is_not_a_layer():
    class Mix(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, w):
            return self.inner(w)

    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    parametrize.register_parametrization(model[0], "weight", Mix())
    report = create_regularizer("mhe", model).report()
    assert [row.name for row in report.layers] == ["0", "1"]
    assert report.skipped == ()


class Directions(nn.Module):
    def __init__(self):
        super().__init__()
        self.directions = nn.Parameter(torch.randn(4, 8))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda module: module.directions[0], r"\[8\]"),
        (lambda module: None, "NoneType"),
        (lambda module: [module.directions], "list"),
        (lambda module: {"a": module.directions, "b": None}, "NoneType"),
    ],
)
def test_a_rule_returns_matrices(wrong, told):
    layer = type("Mine", (Directions,), {})
    register_neurons(layer)(wrong)
    with pytest.raises(UsageError, match=rf"^the view of Mine must return a tensor \[\.\.\., N, d\], .*, not {told}$"):
        create_regularizer("mhe", nn.Sequential(layer(), nn.Linear(8, 3)))


def test_a_layer_whose_view_is_detached_is_not_trained():
    layer = type("Mine", (Directions,), {})
    register_neurons(layer)(lambda module: module.directions.data)
    regularizer = create_regularizer("mhe", nn.Sequential(layer(), nn.Linear(8, 3)))
    assert [item.name for item in regularizer.layers] == ["1"]
    assert any("so nothing trains it" in item.reason for item in regularizer.skipped if item.name == "0")

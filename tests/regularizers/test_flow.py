"""The output layers of networks that are run once, next to what their formulas say."""

import pytest
import torch
from torch import nn

from comhe.errors import UsageError
from comhe.regularizers import create_regularizer, output_layers

X = torch.ones(2, 6)


class Computes(nn.Module):
    """Layers by name, and what is computed with them."""

    def __init__(self, formula, **layers):
        super().__init__()
        self.formula = formula
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *args, **kwargs):
        return self.formula(self, *args, **kwargs)


def two(formula, **more):
    return Computes(formula, a=nn.Linear(6, 6), b=nn.Linear(6, 6), **more)


FORMULAS = {
    "one after the other": (lambda m, x: m.b(m.a(x)), ["b"]),
    "in the other order": (lambda m, x: m.a(m.b(x)), ["a"]),
    "joined": (lambda m, x: m.a(x) + 2 * m.b(x).relu(), ["a", "b"]),
    "side by side": (lambda m, x: torch.cat([m.a(x), m.b(x)], -1), ["a", "b"]),
    "a pair": (lambda m, x: (m.a(x), [m.b(x)]), ["a", "b"]),
    "residual": (lambda m, x: x + m.b(m.a(x)), ["b"]),
    "only one counts": (lambda m, x: (m.a(x), m.b(x))[1], ["b"]),
    "in place": (lambda m, x: m.b(m.a(x).mul_(2)).add_(x).relu_(), ["b"]),
    "written into a part": (lambda m, x: _filled(m.a(x), m.b(x)), ["a", "b"]),
    "chosen by an argmax": (lambda m, x: m.b(x)[m.a(x).argmax(-1) * 0], ["b"]),
    "a mask": (lambda m, x: m.b(x) * (m.a(x) > 0), ["b"]),
    "made like another": (lambda m, x: torch.zeros_like(m.a(x)) + m.b(x), ["b"]),
    "noise": (lambda m, x: m.b(m.a(torch.randn(2, 6))), ["b"]),
    "by weights of other shapes": (lambda m, x: m.b(x) @ m.a.weight.T.reshape(6, 6), ["a"]),
    "hidden states in a mapping": (lambda m, x: {"pred_logits": m.b(x), "encoder_hidden_states": m.a(x)}, ["b"]),
    "a mapping": (lambda m, x: {"pred_boxes": m.b(x), "pred_logits": m.a(x)}, ["a", "b"]),
    "states alone": (lambda m, x: {"last_hidden_state": m.b(m.a(x))}, ["b"]),
    "a cache": (lambda m, x: (m.b(x), DynamicCache(m.a(x))), ["b"]),
    "a parameter for input": (lambda m, x: m.b(m.a(m.a.weight)), ["b"]),
    "a product with what a parameter became": (lambda m, x: m.a(x) @ m.b(m.b.bias.expand(4, 6)).T, ["a", "b"]),
    "the output and its gradient": (lambda m, x: (y := m.b(m.a(x)), _gradient(y, m.a.weight)), ["b"]),
    "several weights to choose from": (lambda m, x: torch.bmm(m.a(x)[:, None], _several(m)[x[:, 0].long()]), ["b"]),
    "a weight that the data scales": (lambda m, x: nn.functional.conv1d(m.a(x)[..., None], _scaled(m, x)), ["b"]),
    "an outer product, summed": (lambda m, x: (m.a(x)[:, None] * m.b.weight).sum(-1), ["b"]),
    "an outer product of copies": (lambda m, x: (m.a(x)[:, None].expand(2, 6, 6) * m.b.weight).sum(-1), ["b"]),
    "cosines": (lambda m, x: torch.cosine_similarity(m.a(x)[:, None], m.b.weight[None], dim=-1), ["b"]),
    "a position for each place": (lambda m, x: m.a(x)[:, None] + m.b.weight, ["a"]),
    "a kernel from the data": (lambda m, x: nn.functional.conv1d(m.a(x)[None], m.b(x)[:, None], groups=2), ["a", "b"]),
    "the next state": (lambda m, x: {"next_state": m.a(x), "reward": m.b(x)}, ["a", "b"]),
    "cast by autocast": (lambda m, x: _autocast(lambda: m.b(m.a(x))), ["b"]),
}
NONE = {
    "an object": (lambda m, x: Computes(None), "Computes returns Computes without tensors; choose some with of="),
    "a number": (lambda m, x: x.sum(), "comes from none of its layers"),
    "classes": (lambda m, x: m.b(x).argmax(-1), "choose outputs that have a gradient with of=, or name the layers"),
    "another way": (lambda m, x: torch.from_numpy(m.b(x).detach().numpy() + 1), "as far as can be followed"),
}


def _filled(first, second):
    whole = torch.zeros(2, 12)
    whole[:, :6] = first
    whole[:, 6:] = second
    return whole


class DynamicCache:
    def __init__(self, values):
        self.values = values


def _gradient(y, weight):
    return torch.autograd.grad(y.sum(), weight, create_graph=True)[0]


def _several(model):
    return torch.stack([model.b.weight, 2 * model.b.weight])


def _scaled(model, x):
    return (model.b.weight * x[:1])[..., None]


def _autocast(compute):
    with torch.autocast("cpu", torch.bfloat16):
        return compute()


@pytest.mark.parametrize("formula", FORMULAS)
def test_formulas(formula):
    compute, expected = FORMULAS[formula]
    assert output_layers(two(compute), X) == expected


@pytest.mark.parametrize("what", NONE)
def test_outputs_of_no_layer(what):
    compute, message = NONE[what]
    with pytest.raises(UsageError, match=message):
        output_layers(two(compute), X)


@pytest.mark.parametrize(
    "change",
    [
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        nn.utils.parametrizations.orthogonal,
        pytest.param(nn.utils.weight_norm, marks=pytest.mark.filterwarnings("ignore:.*weight_norm")),
        nn.utils.spectral_norm,
        lambda layer: nn.utils.prune.l1_unstructured(layer, "weight", 0.5),
        lambda layer: layer.requires_grad_(False),
        torch.compile,
    ],
)
def test_layers_that_compute_their_weight_and_others_that_are_not_trained(change):
    model = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 3))
    model[0], model[2] = change(model[0]), change(model[2])
    assert output_layers(model, X) == ["2"]


def test_layers_of_all_kinds():
    images = torch.ones(2, 3, 8, 8)
    convolutions = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 1), nn.AdaptiveAvgPool2d(1))
    assert output_layers(convolutions, images) == ["2"]
    block = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
    assert output_layers(nn.Sequential(nn.TransformerEncoder(block, 2), nn.Linear(6, 3)), X[None]) == ["1"]
    assert output_layers(nn.Sequential(nn.Linear(6, 6), block), X[None]) == ["0", "1.self_attn.out_proj", "1.linear2"]
    recurrent = Computes(lambda m, x: m.head(m.rnn(x)[0][:, -1]), head=nn.Linear(4, 3), rnn=nn.LSTM(6, 4))
    assert output_layers(recurrent, X[None]) == ["head"]
    tied = Computes(lambda m, i: m.out(m.table(i)), table=nn.Embedding(9, 6), out=nn.Linear(6, 9, bias=False))
    tied.out.weight = tied.table.weight
    assert output_layers(tied, torch.tensor([[1, 2]])) == ["out"]
    by_hand = Computes(lambda m, i: m.table(i) @ m.table.weight.T, table=nn.Embedding(9, 6))
    assert output_layers(by_hand, torch.tensor([[1, 2]])) == ["table"]


def test_a_lazy_model_is_called_and_the_mode_of_each_module_is_kept():
    model = nn.Sequential(nn.Linear(6, 4), nn.Dropout(), nn.LazyLinear(3))
    model[1].eval()
    assert output_layers(model, X) == ["2"]
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert torch.backends.mha.get_fastpath_enabled()


def test_of_chooses_and_arguments_have_names():
    model = two(lambda m, x, twice=False: (m.a(x), m.b(m.b(x)) if twice else m.b(x)))
    assert output_layers(model, X, of=lambda returned: returned[1], twice=True) == ["b"]
    assert output_layers(model, x=X, of=lambda returned: returned[0]) == ["a"]


@pytest.mark.filterwarnings("error")
def test_a_scale_for_each_place_is_no_layer_and_a_recurrent_head_is_one():
    model = Computes(lambda m, x: m.a(x) * m.scale, a=nn.Linear(6, 6), scale=nn.Parameter(torch.ones(2, 6)))
    assert output_layers(model, X) == ["a"]
    assert output_layers(nn.Sequential(nn.LSTM(6, 4)), X) == ["0"]


def test_weights_that_are_elsewhere_are_refused():
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 3, device="meta"))
    with pytest.raises(UsageError, match="sharded or offloaded, so they cannot be followed; find the layers before"):
        output_layers(model, X)


def test_a_weight_without_a_view_is_told():
    class Prototypes(nn.Module):
        def __init__(self):
            super().__init__()
            self.W = nn.Parameter(torch.ones(6, 3))

        def forward(self, x):
            return x @ self.W

    with pytest.warns(
        UserWarning,
        match=r"1 leads to the outputs, but is no output layer: no matrix view for Prototypes.W \[6, 3\]; add",
    ):
        assert output_layers(nn.Sequential(nn.Linear(6, 6), Prototypes()), X) == []


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")
def test_a_quantized_layer_is_told():
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 3))
    model[1] = torch.ao.quantization.quantize_dynamic(nn.Sequential(model[1]), {nn.Linear}, torch.qint8)[0]
    with pytest.warns(UserWarning, match="1 leads to the outputs, but is no output layer: .* is quantized"):
        assert output_layers(model, X) == []


def test_a_regularizer_takes_the_names_where_shapes_mislead():
    layers = {name: nn.Linear(6, 6) for name in ("last", "first", "second")}
    model = Computes(lambda m, x: m.last(m.second(m.first(x))), **layers)
    for output, name in ("auto", "second"), (output_layers(model, X), "last"):
        regularizer = create_regularizer("hs-mhe", model, output=output)
        assert [layer.name for layer in regularizer.layers if layer.role == "output"] == [name]

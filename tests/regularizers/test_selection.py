"""Which layers are regularized, as what, and what the user is told about the others."""

import pytest
import torch
from torch import nn

from comhe.regularizers import RegularizerWarning, create_regularizer
from comhe.regularizers.selection import KINDS, select


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(10, 6)
        self.conv = nn.Conv1d(6, 8, 3)
        self.norm = nn.BatchNorm1d(8)
        self.attention = nn.MultiheadAttention(8, 2)
        self.memory = nn.GRU(8, 4)
        self.mix = nn.Bilinear(4, 4, 5)
        self.body = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 7))
        self.head = nn.Linear(7, 3)


def roles(model=None, **selection):
    regularizer = create_regularizer("mhe", model or Network(), **selection)
    return {layer.name: layer.role for layer in regularizer.layers}


def reasons(model=None, **selection):
    return {item.name: item.reason for item in create_regularizer("mhe", model or Network(), **selection).skipped}


RECURRENT = "the view of GRU does not read GRU.weight_hh_l0 [12, 4]; one for a subclass can (register_neurons)"
ALL = ["conv", "attention", "attention.out_proj", "memory", "mix", "body.0", "body.2", "head"]


def test_defaults():
    assert list(roles()) == ALL
    assert roles() == dict.fromkeys(ALL[:-1], "hidden") | {"head": "output"}
    assert reasons() == {"words": "kind 'embedding' is not among kinds", "memory": RECURRENT}


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        ({"include": "body.*"}, ["body.0", "body.2"]),
        ({"include": ["body.0", "c*"]}, ["conv", "body.0"]),
        ({"exclude": "*o*"}, ["mix", "head"]),
        ({"include": ("body.*", "head"), "exclude": ["*.2"]}, ["body.0", "head"]),
        ({"include": "body.0, c*,", "kinds": "conv,linear"}, ["conv", "body.0"]),
        ({"include": "body.[0,2]"}, ["body.0", "body.2"]),
        ({"kinds": "conv"}, ["conv"]),
        ({"kinds": ("embedding", "recurrent")}, ["words", "memory"]),
        ({"kinds": "attention"}, ["attention"]),
        ({"kinds": "other"}, ["mix"]),
        ({"kinds": ["linear"]}, ["attention.out_proj", "body.0", "body.2", "head"]),
        ({"min_neurons": 7}, ["conv", "attention", "attention.out_proj", "body.0", "body.2"]),
        ({"max_neurons": 4}, ["memory", "head"]),
        ({"min_neurons": 4, "max_neurons": 5}, ["memory", "mix"]),
    ],
)
def test_include_exclude_kinds_and_sizes(selection, names):
    assert list(roles(**selection)) == names
    assert set(reasons(**selection)) == {"words", *ALL} - set(names) | {"memory"}  # nobody is passed over in silence


@pytest.mark.parametrize(
    ("output", "outputs"),
    [
        ("auto", ["head"]),
        (None, []),
        ("body.*", ["body.0", "body.2"]),
        ("conv", ["conv"]),
        ("conv,head", ["conv", "head"]),
        ("none", []),
    ],
)
def test_output(output, outputs):
    assert [name for name, role in roles(output=output).items() if role == "output"] == outputs
    assert len(roles(output=output)) == len(ALL)


def test_excluding_the_output_does_not_promote_another_layer():
    assert set(roles(exclude="head").values()) == {"hidden"}


def test_tied_weights_count_once():
    model = nn.ModuleDict({"words": nn.Embedding(9, 4), "body": nn.Linear(4, 4), "head": nn.Linear(4, 9)})
    model["head"].weight = model["words"].weight
    assert roles(model) == {"body": "hidden", "head": "output"}
    every = {"kinds": ("linear", "embedding")}
    assert list(roles(model, **every)) == ["words", "body"]
    assert reasons(model, **every) == {"head": "tied to words"}
    same = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    same.append(same[0])  # one module, twice
    assert list(roles(same)) == ["0"]


def test_frozen_layers_are_skipped():
    model = Network()
    model.body[0].weight.requires_grad_(False)
    model.conv.bias.requires_grad_(False)
    assert "body.0" not in roles(model)
    assert "conv" in roles(model)
    assert reasons(model)["body.0"] == "frozen (requires_grad is False)"


def test_lazy_unknown_and_single_neurons_are_explained():
    class Unknown(nn.Module):
        def __init__(self):
            super().__init__()
            self.in_weight = nn.Parameter(torch.randn(3, 3))

    model = nn.Sequential(nn.LazyLinear(4), Unknown(), nn.Linear(4, 1), nn.Linear(4, 2))
    why = reasons(model)
    assert set(why) == {"0", "1", "2"}
    assert "lazy: run one forward pass" in why["0"]
    assert "Unknown.in_weight" in why["1"]
    assert "register_neurons" in why["1"]
    assert "1 neuron, fewer than min_neurons=2" in why["2"]
    text = str(create_regularizer("mhe", model).report())
    for name, reason in why.items():
        assert f"skipped {name}: {reason}" in text


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"kinds": "convolution"}, "unknown kind of layer 'convolution'; the kinds are conv, linear, attention"),
        ({"output": "classifier"}, "output='classifier' names no layer; the model has .*head"),
        ({"min_neurons": 1}, "min_neurons must be at least 2"),
        ({"include": "encoder.*"}, "Network has no layer to regularize: .*head: not in include"),
    ],
)
def test_errors_are_one_clear_line(selection, message):
    with pytest.raises(ValueError, match=message) as caught:
        roles(**selection)
    assert "\n" not in str(caught.value)


def test_models_without_neurons():
    with pytest.raises(ValueError, match="ReLU has no layer to regularize: none of its modules has a weight matrix"):
        create_regularizer("mhe", nn.ReLU())
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, not Tensor"):
        create_regularizer("mhe", torch.ones(3, 3))
    value = create_regularizer("none", nn.ReLU())()
    assert value == 0


@pytest.mark.parametrize(
    "layer", [nn.Linear(1, 64), nn.Conv2d(4, 4, 1, groups=4), nn.Conv1d(1, 8, 1), nn.Embedding(9, 1)]
)
def test_neurons_of_one_dimension_have_no_angles(layer):
    model = nn.Sequential(layer, nn.Linear(64, 3))
    assert list(roles(model, kinds=KINDS)) == ["1"]
    assert reasons(model, kinds=KINDS) == {"0": "one-dimensional neurons have no angles"}
    with pytest.raises(ValueError, match="Sequential has no layer to regularize: 0: one-dimensional neurons"):
        roles(model[:1], kinds=KINDS)


def test_a_selection_holds_frozen_layers_too():
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3))
    model[0].requires_grad_(False)
    layers, skipped = found = select(model)
    assert found.layers is layers
    assert [layer.trainable for layer in layers] == [False, True]
    assert skipped == []
    assert list(roles(model)) == ["1"]
    model[0].weight.requires_grad_(True)
    assert layers[0].trainable


def test_parts_of_a_layer_are_layers_with_names_of_their_own():
    model = nn.ModuleDict({"attn": nn.MultiheadAttention(8, 2, kdim=4, vdim=5), "fc": nn.Linear(8, 3)})
    shapes = {layer.name: layer.shape for layer in select(model).layers}
    parts = {"attn.q_proj_weight": (8, 8), "attn.k_proj_weight": (8, 4), "attn.v_proj_weight": (8, 5)}
    assert shapes == {**parts, "attn.out_proj": (8, 8), "fc": (3, 8)}
    assert list(roles(model, include="attn.k*")) == ["attn.k_proj_weight"]
    regularizer = create_regularizer("rp-comhe", model, dim=2)
    regularizer().backward()
    assert model["attn"].k_proj_weight.grad.any()
    alone = select(nn.MultiheadAttention(8, 2, kdim=4), output=None).layers
    assert [layer.name for layer in alone] == ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj"]


def test_a_glob_that_matches_nothing_is_told(recwarn):
    model = nn.ModuleDict({"stem": nn.Linear(4, 6), "norm": nn.BatchNorm1d(6), "head": nn.Linear(6, 3)})
    create_regularizer("mhe", model, include="*", exclude=["norm", "*.bias", "stem.*"])
    create_regularizer("mhe", nn.DataParallel(model), exclude="head")
    assert [str(item.message) for item in recwarn if item.category is RegularizerWarning] == []
    with pytest.warns(
        RegularizerWarning, match=r"^exclude='heed' matches no layer of ModuleDict; did you mean head\?$"
    ):
        create_regularizer("mhe", model, exclude="norm,heed")
    with pytest.warns(RegularizerWarning, match=r"^include='encoder\.\*' matches no layer"):
        create_regularizer("mhe", model, include=["stem", "encoder.*"])


def test_the_model_may_be_a_single_layer():
    assert roles(nn.Linear(4, 3)) == {"": "output"}
    assert "(the model)" in str(create_regularizer("mhe", nn.Linear(4, 3)).report())


def test_the_name_of_a_module_is_for_all_that_is_in_it(recwarn):
    model = nn.ModuleDict(
        {"trunk": nn.Sequential(nn.Linear(6, 5), nn.Sequential(nn.Linear(5, 4))), "trunks": nn.Linear(4, 3)}
    )
    assert list(roles(model, exclude="trunk")) == ["trunks"]
    assert list(roles(model, include="trunk", output=None)) == ["trunk.0", "trunk.1.0"]
    regularizer = create_regularizer("mhe", model, weight={"trunk.1": 3.0, "trunk": 0.5}, exclude="trunks")
    assert {layer.name: regularizer.weight_of(layer) for layer in regularizer.layers} == {
        "trunk.0": 0.5,
        "trunk.1.0": 3.0,
    }
    assert [str(item.message) for item in recwarn if item.category is RegularizerWarning] == []
    for glob in ("tru?k", "trunk.0.weight"):  # the names of a module and of a parameter
        with pytest.warns(RegularizerWarning, match=f"exclude={glob!r} matches no layer".replace("?", r"\?")):
            create_regularizer("mhe", model, exclude=glob)


def test_a_tied_weight_is_excluded_by_any_of_its_names():
    model = nn.ModuleDict({"words": nn.Embedding(9, 4), "body": nn.Linear(4, 4), "head": nn.Linear(4, 9)})
    model["head"].weight = model["words"].weight
    assert reasons(model) == {
        "words": "kind 'embedding' is not among kinds, but it is tied to head, which is regularized"
    }
    for glob, other in (("words", "head"), ("head", "words")):
        assert list(roles(model, exclude=glob, kinds=("linear", "embedding"))) == ["body"]
        assert reasons(model, exclude=glob, kinds=("linear", "embedding")) == {
            glob: "excluded by name",
            other: f"excluded by name: it is tied to {glob}",
        }


NAMES = "in_channels out_channels out_features heads num_heads num_bases concat num_features normalized_shape weight"
NAMES += " num_classes get_classifier sharding_strategy config is_cross_attention base_layer running_var proj"


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("name", NAMES.split())
def test_properties_of_a_model_are_not_run(name, inside):
    """They may need what is not there yet, or warn."""

    def fail(self):
        raise RuntimeError(f"{name} was asked for")

    layers = {"qkv": nn.Linear(8, 24), "body": nn.Conv2d(8, 8, 3), "last": nn.Linear(8, 5)}
    model = type("Own", (nn.ModuleDict,), {name: property(fail)})(layers)
    model = nn.ModuleDict({"inner": model, "outer": nn.Linear(5, 4), "norm": nn.LayerNorm(6)}) if inside else model
    found = select(model)
    assert [layer.role for layer in found.layers] == ["hidden"] * (len(found.layers) - 1) + ["output"]
    regularizer = create_regularizer("hs-mhe", model)
    regularizer().backward()
    assert len(regularizer.report().layers) == 3 + inside

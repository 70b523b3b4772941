"""The last layer of others: found by its name, else by its shape, else asked about."""

import pytest
import torch
from torch import nn

from comhe.errors import WeightsError
from comhe.zoo import create_model, load_weights

from .conftest import same

NAMES = ("lin", "pred", "dense", "fc_out", "proj", "final_layer", "fc2", "weird.1", "a.b.c")


def build(classes=5):
    return create_model("resnet8", num_classes=classes)


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return build().state_dict()


def renamed(state, name, prefix=""):
    return {key.replace("fc.", f"{name}.") if key.startswith("fc.") else prefix + key: t for key, t in state.items()}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_a_layer_of_any_name_is_taken_by_its_shape_and_told(state, name, prefix):
    theirs = renamed(state, name, prefix)
    model = build()
    assert f"{name!r} is taken as the last layer, by its shape" in load_weights(model, theirs).notes
    assert same(model, state)
    with pytest.raises(WeightsError, match="for 5 classes, this CifarResNet has 7"):
        load_weights(build(7), theirs)
    assert load_weights(build(7), theirs, swap_head=True).initialized == ("fc.weight", "fc.bias")


@pytest.mark.parametrize("name", ["fc", "linear", "lin"])
@pytest.mark.parametrize("shape", ["transposed", "1x1 convolution"])
def test_a_matrix_in_another_form(state, name, shape):
    theirs = renamed(state, name)
    weight = theirs[f"{name}.weight"]
    theirs[f"{name}.weight"] = weight.t() if shape == "transposed" else weight[:, :, None, None]
    model = build()
    done = load_weights(model, theirs)
    assert (f"{name}.weight is transposed" in done.notes) == (shape == "transposed")
    assert same(model, state)


def test_a_linear_layer_for_a_convolution_and_a_bias_that_is_not_there(state):
    ours = create_model("cnn9", num_classes=5)
    theirs = {key: t.flatten(1) if key == "fc2.weight" else t for key, t in ours.state_dict().items()}
    other = create_model("cnn9", num_classes=5)
    load_weights(other, theirs | {"lin.weight": theirs.pop("fc2.weight"), "lin.bias": torch.zeros(5)})
    assert same(other, ours.state_dict())
    with pytest.raises(WeightsError, match=r"unexpected: lin\.weight, lin\.bias|another head, lin\.weight, lin\.bias"):
        load_weights(other, theirs | {"lin.weight": torch.ones(5, 256), "lin.bias": torch.ones(5)})
    without = renamed(state, "lin")
    without.pop("lin.bias")
    model = build()
    assert "fc.bias is zero, because 'lin' has no bias" in load_weights(model, without).notes
    assert not model.fc.bias.any()
    without = {key: t for key, t in state.items() if key != "fc.bias"}  # under our own name, too
    model = build()
    assert load_weights(model, without).notes == ("fc.bias is zero, because 'fc' has no bias",)
    assert same(model, state | {"fc.bias": torch.zeros(5)})
    zero = ours.state_dict() | {"fc2.bias": torch.zeros(5)}
    assert load_weights(other, zero).notes == ()
    with pytest.raises(WeightsError, match=r"unexpected: fc2\.bias|another head, fc2\.bias"):
        load_weights(other, zero | {"fc2.bias": torch.ones(5)})


@pytest.mark.parametrize("prefix", ["", "backbone."])
@pytest.mark.parametrize("name", ["fc", "linear", "lin", "arcface", "head.proxies"])
def test_a_head_whose_logits_are_cosines_is_refused(state, name, prefix):
    """Without a bias: [in, features], which no layer of torch is, or named for it."""
    theirs = renamed(state, name, prefix)
    theirs.pop(f"{name}.bias")
    if name in ("fc", "linear", "lin"):
        theirs[f"{name}.weight"] = theirs[f"{name}.weight"].t()
    message = rf"the weights have {name}\.weight without a bias, probably of a normalized \(cosine\) classifier, where"
    with pytest.raises(WeightsError, match=rf"{message} this CifarResNet has .*; pass swap_head=True"):
        load_weights(build(), theirs)
    model = build(7)
    assert load_weights(model, theirs, swap_head=True).ignored == (f"{name}.weight",)
    assert torch.equal(model.conv1.weight, state["conv1.weight"])


def test_of_two_layers_that_fit_neither_is_taken(state):
    theirs = renamed(state, "lin")
    two = theirs | {"aux.weight": torch.zeros(5, 64), "aux.bias": torch.zeros(5)}
    with pytest.raises(WeightsError, match=r"several layers that could be the head \(aux, lin\).*swap_head=True"):
        load_weights(build(), two)
    assert "fc.weight" in load_weights(build(), two, swap_head=True).initialized
    model = build()
    other = theirs | {"aux.weight": torch.zeros(9, 64), "aux.bias": torch.zeros(9)}  # for other classes
    assert load_weights(model, other).ignored == ("aux.weight", "aux.bias")
    assert same(model, state)


def test_a_perceptron_is_another_head_and_a_layer_of_the_trunk_is_none(state):
    trunk = {key: t for key, t in state.items() if not key.startswith("fc.")}
    perceptron = {"proj.0.weight": torch.ones(64, 64), "proj.2.weight": torch.ones(5, 64)}
    with pytest.raises(WeightsError, match=r"another head, proj\.0\.weight, proj\.2\.weight"):
        load_weights(build(), trunk | perceptron)
    assert load_weights(build(), trunk | perceptron, swap_head=True).ignored == tuple(perceptron)
    for more in ("layer4.0.conv1.weight", "layer3.0.se.weight"):
        with pytest.raises(WeightsError, match=f"unexpected: {more}"):
            load_weights(build(), trunk | {more: torch.ones(64, 64, 3, 3)}, swap_head=True)


def test_the_name_of_a_head_beside_the_trunk_tells_where_the_shortcut_pads(state):
    for prefix in ("", "backbone.", "module.net.backbone."):
        done = load_weights(build(), renamed(state, "linear", prefix))
        assert done.notes == ("shortcut='pad-both': their last layer is called linear, as akamaster's",)


def test_a_projection_and_what_follows_it_are_a_head_to_swap():
    """As in SwAV; a module that takes something else than the trunk's features is not."""
    model = create_model("resnet18", num_classes=10)
    trunk = {name: t for name, t in model.state_dict().items() if not name.startswith("fc.")}
    heads = {
        "projection_head.0.weight": torch.zeros(64, 512), "projection_head.1.running_mean": torch.zeros(64),
        "projection_head.3.weight": torch.zeros(32, 64), "prototypes.prototypes0.weight": torch.zeros(300, 32),
    }  # fmt: skip
    loaded = load_weights(model, trunk | heads, swap_head=True)
    assert loaded.initialized == ("fc.weight", "fc.bias")
    assert set(loaded.ignored) == heads.keys()
    with pytest.raises(WeightsError, match=r"unexpected: decoder\.weight"):
        load_weights(model, trunk | {"decoder.weight": torch.zeros(7, 100)}, swap_head=True)


@pytest.mark.parametrize("name", ["head", "lin"])
def test_a_layer_between_trunk_and_head_is_not_left_out(state, name):
    """Without it the network would compute something else; a projection stands beside the head."""
    theirs = renamed(state, name, "backbone.")
    wide, attention, recurrent = torch.ones(64), nn.MultiheadAttention(64, 2), nn.LSTM(64, 32, bidirectional=True)
    between = {
        "neck": {"neck.weight": torch.ones(64, 64), "neck.bias": wide},
        "proj": {"proj.weight": torch.ones(64, 64, 1, 1)},
        "bnneck": {"bnneck.weight": wide, "bnneck.running_mean": wide},
        "bn.0": {"bn.0.running_mean": wide, "bn.0.running_var": wide, "bn.0.num_batches_tracked": torch.tensor(1)},
        "gamma": {"gamma": wide},
        "local": {"local.weight": torch.ones(64, 1, 3, 3)},
        "gem": {"gem.p": torch.ones(1)},
        "adapter.up": {"adapter.down.weight": torch.ones(8, 64), "adapter.up.weight": torch.ones(64, 8)},
        "attn.out_proj": {f"attn.{part}": t for part, t in attention.state_dict().items()},
        "lstm": {f"lstm.{part}": t for part, t in recurrent.state_dict().items()},
    }
    for layer, tensors in between.items():
        message = rf"could be the head \({', '.join(sorted([layer, name]))}\).*swap_head=True"
        with pytest.raises(WeightsError, match=message):
            load_weights(build(), theirs | tensors)
        assert "fc.weight" in load_weights(build(), theirs | tensors, swap_head=True).initialized
    beside = {
        "projector.0.weight": torch.ones(64, 64), "projector.2.weight": torch.ones(64, 64), "keys": torch.ones(9, 64),
        "rotation.0.weight": torch.ones(32, 64), "rotation.2.weight": torch.ones(4, 32), "scale": torch.ones(1),
    }  # fmt: skip
    model = build()
    load_weights(model, theirs | beside)
    assert same(model, state)


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_a_norm_before_the_head_in_its_own_sequence_is_not_left_out(state, prefix):
    """As in linear probes of MAE and MoCo v3, whose norm has no weight."""
    theirs = renamed(state, "head.1", prefix) | {"head.0.running_mean": torch.ones(64)}
    with pytest.raises(
        WeightsError, match=r"could be the head \(head\.0, head\.1\).*; leave out those that are no part"
    ):
        load_weights(build(), theirs)
    assert "fc.weight" in load_weights(build(), theirs, swap_head=True).initialized


def test_what_a_swapped_head_was_read_as_is_not_told(state):
    theirs = renamed(state, "lin")
    theirs.pop("lin.bias")
    done = load_weights(build(7), theirs, swap_head=True)
    assert done.initialized == ("fc.weight", "fc.bias")
    assert not any("lin" in note for note in done.notes)

"""Residual networks and VGG of others: their names, and what their numbers mean."""

import re
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from comhe.errors import WeightsError
from comhe.zoo import create_model, get_weights, load_weights
from comhe.zoo.adapters.images import padding_of


class Basic(nn.Module):
    """A basic block as all these repositories have it; only the shortcut and the names differ."""

    def __init__(self, inputs, outputs, stride, option="B"):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.option, self.new, self.shortcut = option, outputs - inputs, nn.Sequential()
        if option == "B" and (stride != 1 or self.new):
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.option == "B" or not self.new:
            return F.relu(out + self.shortcut(x))
        front = self.new // 2 if self.option == "both" else 0
        return F.relu(out + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, front, self.new - front)))


class Bottleneck(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        width = outputs // 4
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        out = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(out)) + self.shortcut(x))


class Small(nn.Module):
    """A network for 32x32 images whose head is called linear: akamaster's (three stages), kuangliu's (four)."""

    def __init__(self, block, blocks, widths):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0])
        self.stages = len(blocks)
        for i, (number, (a, b)) in enumerate(zip(blocks, pairwise(widths), strict=True), 1):
            first = block(a, b, 1 if i == 1 else 2)
            self.add_module(f"layer{i}", nn.Sequential(first, *(block(b, b, 1) for _ in range(number - 1))))
        self.linear = nn.Linear(widths[-1], 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        for i in range(1, self.stages + 1):
            x = getattr(self, f"layer{i}")(x)
        return self.linear(x.mean((2, 3)))


def sized(name, **options):
    """A network without values, for errors that its shapes make."""
    with torch.device("meta"):
        return create_model(name, num_classes=10, **options)


def trained(model, steps=3, size=16):
    """Statistics of random images, and scales and shifts that are not the initial ones."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.3, 1.2)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            module.momentum = None
    with torch.no_grad():
        for _ in range(steps):
            model.train()(torch.randn(16, 3, size, size))
    return model.eval()


def cifar(option, blocks=3):
    return trained(Small(lambda a, b, s: Basic(a, b, s, option), [blocks] * 3, (16, 16, 32, 64)))


X = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("option", ["end", "both"])
@pytest.mark.parametrize("head", ["linear", "fc"])
@pytest.mark.parametrize("counters", [True, False])
def test_the_side_of_the_padding_is_found_in_the_running_means(option, head, counters):
    theirs = cifar(option)
    state = {f"module.{n.replace('linear', head)}": t for n, t in theirs.state_dict().items()}
    state = {n: t for n, t in state.items() if counters or "num_batches" not in n}
    expected = "pad-both" if option == "both" else "pad"
    model = create_model("resnet20", num_classes=10).eval()
    done = load_weights(model, {"state_dict": state})
    torch.testing.assert_close(model(X), theirs(X))
    assert bool(done.notes) == (option == "both")
    model = create_model("resnet20", num_classes=10, shortcut=expected).eval()
    load_weights(model, state)
    torch.testing.assert_close(model(X), theirs(X))
    other = create_model("resnet20", num_classes=10, shortcut="pad" if option == "both" else "pad-both")
    with pytest.raises(WeightsError, match=f"trained with shortcut='{expected}'.*build it with shortcut='{expected}'"):
        load_weights(other, state)
    again = load_weights(create_model("resnet20", num_classes=10), model.state_dict())  # our own names, found again
    assert bool(again.notes) == (option == "both")


def test_a_model_goes_back_to_the_other_padding():
    model = create_model("resnet20", num_classes=10).eval()
    for option in ("both", "end"):
        theirs = cifar(option)
        load_weights(model, theirs.state_dict())
        torch.testing.assert_close(model(X), theirs(X))


def test_without_statistics_the_heads_name_decides_or_it_is_asked():
    state = create_model("resnet20", num_classes=10).state_dict()
    assert padding_of(state)[0] is None
    model = create_model("resnet20", num_classes=10)
    assert load_weights(model, state).notes == ()
    renamed = {n.replace("fc.", "linear."): t for n, t in state.items()}
    assert "shortcut='pad-both'" in load_weights(model, renamed).notes[0]
    unclear = {n: t for n, t in state.items() if "num_batches" not in n}
    unclear |= {n: torch.zeros_like(t) for n, t in unclear.items() if n.endswith("bn2.weight")}
    unclear["bn1.running_mean"] = torch.ones(16)
    for name in unclear:
        if name.endswith("conv1.weight") and name.startswith("layer"):
            unclear[name] = torch.zeros_like(unclear[name])  # nothing depends on the shortcut
    with pytest.raises(WeightsError, match=r"do not tell on which side.*shortcut='pad' .* or shortcut='pad-both'"):
        load_weights(model, unclear)
    load_weights(create_model("resnet20", num_classes=10, shortcut="pad"), unclear)


@pytest.mark.parametrize("name", ["resnet8.glyphs-none", "resnet8.glyphs-rp-comhe"])
def test_weights_of_this_package_were_padded_at_the_end(name):
    padding, ratio = padding_of(get_weights(name).state_dict())
    assert padding == "pad"
    assert ratio > 3


@pytest.mark.parametrize("names", ["shortcut", "downsample"])
def test_projections_are_asked_for_and_loaded(names):
    theirs = cifar("B")
    state = {n.replace("shortcut", names): t for n, t in theirs.state_dict().items()}
    with pytest.raises(WeightsError, match=r"unexpected: layer2\.0\.downsample.*shortcut='projection'"):
        load_weights(create_model("resnet20", num_classes=10), state)
    model = create_model("resnet20", num_classes=10, shortcut="projection").eval()
    load_weights(model, state)
    torch.testing.assert_close(model(X), theirs(X))
    with pytest.raises(WeightsError, match="shortcut='pad'"):
        load_weights(model, cifar("end").state_dict())


def test_weights_of_another_depth_are_named():
    with pytest.raises(WeightsError, match="they are weights of resnet20"):
        load_weights(create_model("resnet56", num_classes=10), cifar("end").state_dict())


def weiaicunzai(state):
    """``conv1`` is a sequence, blocks are ``residual_function``, stages begin with ``conv2_x``."""
    parts = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4, "conv3": 6, "bn3": 7}
    result = {}
    for name, tensor in state.items():
        first, *rest = name.split(".")
        if first in ("conv1", "bn1"):
            name = f"conv1.{parts[first]}.{rest[0]}"
        elif first.startswith("layer"):
            block, part, *end = rest
            inner = f"residual_function.{parts[part]}" if part in parts else part
            name = f"conv{int(first[5:]) + 1}_x.{block}.{inner}.{'.'.join(end)}"
        result[name.replace("linear", "fc")] = tensor
    return result


def transformers(state):
    result = {}
    for name, tensor in state.items():
        first, *rest = name.split(".")
        if first in ("conv1", "bn1"):
            name = f"resnet.embedder.embedder.{'convolution' if first == 'conv1' else 'normalization'}.{rest[0]}"
        elif first.startswith("layer"):
            block, part, *end = rest
            kind = "convolution" if part[:-1] == "conv" or end[0] == "0" else "normalization"
            inner = f"shortcut.{kind}" if part == "shortcut" else f"layer.{int(part[-1]) - 1}.{kind}"
            name = f"resnet.encoder.stages.{int(first[5:]) - 1}.layers.{block}.{inner}.{end[-1]}"
        result[name.replace("linear", "classifier.1")] = tensor
    return result


LAYOUTS = {"kuangliu": dict, "weiaicunzai": weiaicunzai, "transformers": transformers}


@pytest.fixture(scope="module", params=["resnet18_cifar", "resnet50_cifar"])
def for_small_images(request):
    if request.param == "resnet18_cifar":
        network = Small(Basic, [2, 2, 2, 2], (64, 64, 128, 256, 512))
    else:
        network = Small(Bottleneck, [3, 4, 6, 3], (64, 256, 512, 1024, 2048))
    return request.param, trained(network, steps=1, size=8)


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_imagenets_networks_for_small_images(for_small_images, layout):
    name, theirs = for_small_images
    state = LAYOUTS[layout](theirs.state_dict())
    model = create_model(name, num_classes=10).eval()
    done = load_weights(model, {"net": {f"module.{n}": t for n, t in state.items()}})
    assert ("read without max-pooling after the first layer, which tensors do not tell" in done.notes) == (
        layout == "transformers"
    )
    x = X[:1, :, :16, :16]
    torch.testing.assert_close(model(x), theirs(x), rtol=1e-3, atol=1e-4)
    with pytest.raises(WeightsError, match=f"they are weights of {name}"):
        load_weights(sized(name.removesuffix("_cifar")), state)


def test_max_pooling_that_tensors_do_not_tell_is_told():
    """huyvnphan/PyTorch_CIFAR10 has it behind a 3x3 convolution."""
    for name in ("resnet18_cifar", "resnet18"):
        model = create_model(name, num_classes=10)
        notes = ("read without max-pooling after the first layer, which tensors do not tell",)
        assert load_weights(model, model.state_dict()).notes == (notes if name == "resnet18_cifar" else ())


def test_biases_before_batch_norm_go_into_its_mean():
    theirs = create_model("vgg16_bn", num_classes=10)
    for i, layer in enumerate(theirs.features):
        if isinstance(layer, nn.Conv2d):
            theirs.features[i] = nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1)
    trained(theirs, 0)
    with torch.no_grad():
        theirs.train()(torch.randn(4, 3, 32, 32))
    model = create_model("vgg16_bn", num_classes=10).eval()
    load_weights(model, {"net": {f"module.{n}": t for n, t in theirs.state_dict().items()}})
    torch.testing.assert_close(model(X), theirs.eval()(X), rtol=1e-3, atol=1e-4)


def test_wide_residual_networks():
    torch.manual_seed(0)
    ours = create_model("wrn_16_4", num_classes=10).state_dict()
    theirs = {}
    for name, tensor in ours.items():
        stage, _, rest = name.partition(".")
        name = f"block{stage[5:]}.layer.{rest}" if stage.startswith("layer") else name
        theirs[name.replace("downsample", "convShortcut").replace("bn.", "bn1.", stage == "bn")] = tensor
    model = create_model("wrn_16_4", num_classes=10)
    load_weights(model, {"state_dict": theirs})
    assert all(tensor.equal(ours[name]) for name, tensor in model.state_dict().items())


def test_trades_builds_a_stage_that_it_never_calls():
    model = create_model("wrn_16_4", num_classes=10)
    state = {}
    for name, tensor in model.state_dict().items():
        name = re.sub(r"^layer(\d)\.", r"block\1.layer.", name).replace("downsample", "convShortcut")
        state[name := re.sub(r"^bn\.", "bn1.", name)] = tensor
        if name.startswith("block1."):
            state[f"sub_{name}"] = torch.full_like(tensor, 7)
    assert len(load_weights(model, state).loaded) == len(model.state_dict())


def test_preactivation_networks_with_another_shortcut_are_refused():
    model = create_model("resnet164", num_classes=10)
    state = {name.replace(".downsample.", ".downsample.0."): t for name, t in model.state_dict().items()}
    with pytest.raises(WeightsError, match="bearpaw/pytorch-classification's PreResNet, another network"):
        load_weights(model, state)


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize("ours", ["wrn_16_4", "resnet164"])
@pytest.mark.parametrize("theirs", ["resnet18", "resnet50_cifar", "resnet20"])
def test_other_networks_with_projections_are_not_taken_for_it(theirs, ours):
    options = {"shortcut": "projection"} if theirs == "resnet20" else {}
    state = sized(theirs, **options).state_dict()
    with pytest.raises(WeightsError, match=r"unexpected: bn1\.weight.*; they are of another network") as error:
        load_weights(sized(ours), state)
    assert "bearpaw" not in str(error.value)


def wide_stages():
    return Small(lambda a, b, s: Basic(a, b, s), [3] * 3, (16, 32, 64, 128)).state_dict()


@pytest.mark.parametrize("shortcut", ["pad", "projection"])
@pytest.mark.parametrize(
    "theirs",
    [
        lambda: {"arr_0": torch.ones(16, 3, 3, 3), "arr_1": torch.ones(16)},
        lambda: {"layer1.0.conv1.lora_A.weight": torch.ones(8, 16)},
        lambda: {"_flat_param": torch.ones(270_000)},
        lambda: create_model("resnet18", num_classes=10).state_dict(),
        wide_stages,
    ],
)
def test_options_are_advised_only_where_they_help(theirs, shortcut):
    with pytest.raises(WeightsError, match=r"; they are of another network") as error:
        load_weights(create_model("resnet20", num_classes=10, shortcut=shortcut), theirs())
    assert error.value.build == {}


@pytest.mark.usefixtures("without_values")
def test_wider_blocks_are_not_taken_for_the_network_that_has_their_names():
    state = {
        name: torch.ones(128, *tensor.shape[1:]) if name == "layer1.0.conv1.weight" else tensor
        for name, tensor in sized("resnet50").state_dict().items()
    }
    with pytest.raises(WeightsError, match=r"layer1\.0\.conv1\.weight \[128, 64, 1, 1\]") as error:
        load_weights(sized("resnet50_cifar"), state)
    assert "they are weights of" not in str(error.value)


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize(("theirs", "ours"), [("resnet18", "resnet18_cifar"), ("resnet18_cifar", "resnet18")])
def test_an_input_that_cannot_be_adapted_is_told_as_without_adapting(theirs, ours):
    state = sized(theirs).state_dict()
    for channels in (1, 3):
        model = sized(ours, in_channels=channels)
        with pytest.raises(WeightsError, match=rf"conv1\.weight \[64, 3, .*; they are weights of {theirs}$"):
            load_weights(model, state, adapt_input=True)


def test_padding_that_nothing_tells_is_said():
    model = create_model("resnet8", num_classes=10)
    assert not load_weights(model, model.state_dict()).notes, "an untrained network is not padded wrongly"
    state = model.state_dict() | {"bn1.running_mean": torch.ones(16)}
    (note,) = load_weights(model, state).notes
    assert "shortcut='pad' (zeros last) was taken" in note
    assert "shortcut='pad-both'" in note
    assert not load_weights(create_model("resnet8", num_classes=10, shortcut="pad-both"), state).notes

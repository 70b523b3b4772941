"""A sweep over all image networks."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from comhe.regularizers import create_regularizer
from comhe.zoo import create_model, list_models, load_weights
from comhe.zoo.images import CifarResNet, PreactResNet
from comhe.zoo.images.preact import PreactBasic, PreactBottleneck

from .conftest import meta

MODELS = list_models(domain="images")
# The smallest images on which every layer still has something to normalize.
SIZE = {"cnn6": 32, "cnn9": 32, "cnn15": 32, "vgg16_bn": 32, "resnet18": 32, "resnet34": 32, "resnet50": 32}
SIZE |= {"resnet1001": 8}
# One pass each: they are resnet18, resnet56, resnet164 and wrn_16_4 with larger numbers.
LARGE = ("resnet34", "resnet34_cifar", "resnet50_cifar", "resnet110", "resnet1001", "wrn_28_10")
MEDIUM = [name for name in MODELS if name not in LARGE]


@pytest.fixture(autouse=True)
def _drawn_once(request, monkeypatch):
    """Convolutions do not draw what their network draws again; that of airbench94 leaves it to them."""
    if "airbench94" not in request.node.name:
        monkeypatch.setattr(nn.Conv2d, "reset_parameters", lambda self: None)


def images(name: str, number: int, channels: int) -> torch.Tensor:
    size = SIZE.get(name, 16)
    return torch.randn(number, channels, size, size, generator=torch.Generator().manual_seed(1))


def build(name: str, **kwargs) -> nn.Module:
    torch.manual_seed(0)
    return create_model(name, **{"num_classes": 7, **kwargs})


def test_the_names():
    assert MODELS == [
        "airbench94",
        "cnn6",
        "cnn9",
        "cnn15",
        "resnet8",
        "resnet18",
        "resnet18_cifar",
        "resnet20",
        "resnet32",
        "resnet32_wide",
        "resnet34",
        "resnet34_cifar",
        "resnet44",
        "resnet50",
        "resnet50_cifar",
        "resnet56",
        "resnet110",
        "resnet164",
        "resnet1001",
        "vgg16_bn",
        "wrn_16_4",
        "wrn_28_10",
    ]


@pytest.mark.parametrize("name", MODELS)
def test_learns_through_every_parameter(name):
    model = build(name, in_channels=1)
    logits = model(images(name, 4 if name.startswith("resnet") else 2, 1))
    assert logits.shape[1:] == (7,)
    assert logits.isfinite().all()
    F.cross_entropy(logits, torch.arange(len(logits))).backward()
    for key, p in model.named_parameters():
        assert p.grad is not None, key
        assert p.grad.isfinite().all(), key
        assert p.grad.any(), key


@pytest.mark.parametrize("name", MEDIUM)
def test_evaluates_to_the_same_from_a_state_dict_and_in_channels_last(name):
    model, x = build(name), images(name, 2, 3)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for tensor in other.state_dict().values():
            tensor.zero_()
        model(x)  # running averages for the state dict
        logits = model.eval()(x)
        assert load_weights(other.eval(), model.state_dict()).initialized == ()
        assert other(x).equal(logits)
        nhwc = other.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(nhwc, logits, rtol=1e-4, atol=1e-4 * logits.abs().max().item())


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize("name", MEDIUM)
def test_the_head_is_the_last_layer(name):
    """It is what another number of classes changes, and what a regularizer takes as the output."""
    with torch.device("meta"):
        model, other = create_model(name, num_classes=7), create_model(name, num_classes=9)
        regularizer = create_regularizer("hs-mhe", model)
    theirs = other.state_dict()
    changed = [key for key, value in model.state_dict().items() if value.shape != theirs[key].shape]
    assert {key.rpartition(".")[0] for key in changed} == {model.output_layer}
    assert model.get_submodule(model.output_layer).weight.shape[0] == 7
    with pytest.raises(ValueError, match=r"are for 9 classes, this .* has 7"):
        load_weights(model, theirs)
    assert list(load_weights(model, theirs, swap_head=True).initialized) == changed
    layers = [key for key, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert [layer.name for layer in regularizer.layers] == layers
    assert [layer.name for layer in regularizer.layers if layer.role == "output"] == [model.output_layer]


@pytest.mark.parametrize("name", MEDIUM)
def test_reset_parameters_draws_every_tensor(name):
    model, states = build(name), []
    for _ in range(2):
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data.fill_(7)
        torch.manual_seed(5)
        model.reset_parameters()
        states.append({key: tensor.clone() for key, tensor in model.state_dict().items()})
    for key, tensor in states[0].items():
        assert tensor.equal(states[1][key]), key
        assert not (tensor == 7).all(), key


SMALL = {  # the blocks that branch; the other networks are sequences
    "pad": lambda: CifarResNet(1, 4, 4, 3, "pad", False),
    "bottleneck": lambda: PreactResNet(PreactBottleneck, 1, 8, 4, 3),
    "wide": lambda: PreactResNet(partial(PreactBasic, dropout=0.3), 1, 8, 4, 3),
}


@pytest.mark.parametrize("name", SMALL)
def test_compiles_to_one_graph(name):
    model = SMALL[name]()
    torch._dynamo.reset()
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = torch.compile(model.eval(), backend="eager", fullgraph=True)(x)
        torch.testing.assert_close(logits, model(x))


STAGES = {
    "resnet20": [(16, 32), (32, 16), (64, 8)],
    "resnet32_wide": [(64, 32), (128, 16), (256, 8)],
    "resnet164": [(64, 32), (128, 16), (256, 8)],
    "wrn_28_10": [(160, 32), (320, 16), (640, 8)],
    "resnet50": [(256, 8), (512, 4), (1024, 2), (2048, 1)],
    "vgg16_bn": [(64, 16), (128, 8), (256, 4), (512, 2), (512, 1)],
}


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize("name", STAGES)
def test_shape_of_every_stage(name):
    model, shapes = meta(name), []
    stages = [module for key, module in model.named_children() if key.startswith("layer")]
    for stage in stages or [m for m in model.features if isinstance(m, nn.MaxPool2d)]:
        stage.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
    logits = model(torch.empty(2, 3, 32, 32, device="meta"))
    assert shapes == [(channels, side, side) for channels, side in STAGES[name]]
    assert logits.shape == (2, model.get_submodule(model.output_layer).out_features)

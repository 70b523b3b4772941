"""Residual networks and VGG: the published parameter counts, the shape of every stage, and what a block computes."""

import math
from functools import partial

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock as TorchvisionBlock

from comhe.zoo import create_model
from comhe.zoo.images.preact import PreactBasic, PreactBottleneck
from comhe.zoo.images.resnet import ResNet
from comhe.zoo.images.resnet_cifar import BasicBlock, CifarResNet, PadShortcut

CIFAR = {  # blocks per stage, first width, parameters for 10 classes, what He et al. 2016 print (table 6)
    "resnet8": (1, 16, 75_290, None),
    "resnet20": (3, 16, 269_722, "0.27"),
    "resnet32": (5, 16, 464_154, "0.46"),
    "resnet44": (7, 16, 658_586, "0.66"),
    "resnet56": (9, 16, 853_018, "0.85"),
    "resnet110": (18, 16, 1_727_962, "1.7"),
    "resnet32_wide": (5, 64, 7_386_186, None),
}
PREACT = {"resnet164": (18, 1_703_258), "resnet1001": (111, 10_327_706)}
WIDE = {"wrn_16_4": (2, 4, 2_748_890, 2_772_020), "wrn_28_10": (4, 10, 36_479_194, 36_536_884)}
IMAGENET = {"resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032}


def meta(name: str, **kwargs) -> nn.Module:
    with torch.device("meta"):
        return create_model(name, **kwargs)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def norms(model: nn.Module) -> int:
    return sum(p.numel() for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters())


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Batch norms that do something, in evaluation as well."""
    g = torch.Generator().manual_seed(seed)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            for tensor in (m.weight.data, m.running_var):
                tensor.uniform_(0.5, 1.5, generator=g)
            for tensor in (m.bias.data, m.running_mean):
                tensor.uniform_(-0.5, 0.5, generator=g)
    return module.double()


def inputs(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", CIFAR)
def test_counts_of_cifar_resnets(name):
    n, a, exact, published = CIFAR[name]
    b, c = 2 * a, 4 * a
    convolutions = 27 * a + 9 * (2 * n * a * a + a * b + (2 * n - 1) * b * b + b * c + (2 * n - 1) * c * c)
    total = convolutions + 2 * (a + 2 * n * (a + b + c)) + 10 * c + 10
    projections = a * b + 2 * b + b * c + 2 * c
    assert count(meta(name, num_classes=10)) == total == exact
    assert count(meta(name, num_classes=10, shortcut="projection")) == total + projections
    if published is not None:
        digits = len(published.split(".")[1])
        assert f"{total / 1e6:.{digits}f}" == published
        if name in ("resnet32", "resnet56"):  # option B does not meet the published count: A is the default
            assert f"{(total + projections) / 1e6:.{digits}f}" != published


@pytest.mark.parametrize("name", PREACT)
def test_counts_of_preactivation_resnets(name):
    n, exact = PREACT[name]
    weights, norm, width_in = 27 * 16, 0, 16
    for out in (64, 128, 256):
        q = out // 4
        weights += width_in * out  # the projection
        for i in range(n):
            channels = width_in if i == 0 else out
            weights += channels * q + 9 * q * q + q * out
            norm += 2 * (channels + 2 * q)
        width_in = out
    norm += 2 * 256
    head = 256 * 10 + 10
    model = meta(name, num_classes=10)
    assert norms(model) == norm
    assert count(model) == weights + norm + head == exact
    # What Zagoruyko & Komodakis 2016 print for them, which leaves batch norm out.
    assert f"{(weights + head) / 1e6:.1f}" == {"resnet164": "1.7", "resnet1001": "10.2"}[name]


@pytest.mark.parametrize("name", WIDE)
def test_counts_of_wide_resnets(name):
    n, k, exact, exact_100 = WIDE[name]
    total, width_in = 27 * 16, 16
    for out in (16 * k, 32 * k, 64 * k):
        total += width_in * out + 9 * width_in * out + 9 * (2 * n - 1) * out * out + 2 * (width_in + (2 * n - 1) * out)
        width_in = out
    total += 2 * width_in
    assert count(meta(name, num_classes=10)) == total + 10 * width_in + 10 == exact
    assert count(meta(name, num_classes=100)) == total + 100 * width_in + 100 == exact_100
    assert f"{exact_100 / 1e6:.1f}" == {"wrn_16_4": "2.8", "wrn_28_10": "36.5"}[name]


@pytest.mark.parametrize("name", IMAGENET)
def test_counts_of_imagenet_resnets(name):
    assert count(meta(name)) == IMAGENET[name]


def test_vgg_has_torchvisions_features_without_the_biases():
    model = meta("vgg16_bn", num_classes=10)
    with torch.device("meta"):
        theirs = torchvision.models.vgg16_bn().features
    biases = {f"{key}.bias" for key, m in theirs.named_modules() if isinstance(m, nn.Conv2d)}
    expected = {key: value.shape for key, value in theirs.state_dict().items() if key not in biases}
    assert {key: value.shape for key, value in model.features.state_dict().items()} == expected
    assert count(model) == sum(p.numel() for p in theirs.parameters()) - 4224 + 5130 == 14_724_042


STAGES = {
    "resnet20": [(16, 32), (32, 16), (64, 8)],
    "resnet32_wide": [(64, 32), (128, 16), (256, 8)],
    "resnet164": [(64, 32), (128, 16), (256, 8)],
    "wrn_28_10": [(160, 32), (320, 16), (640, 8)],
    "resnet50": [(256, 8), (512, 4), (1024, 2), (2048, 1)],
    "vgg16_bn": [(64, 16), (128, 8), (256, 4), (512, 2), (512, 1)],
}


@pytest.mark.parametrize("name", STAGES)
def test_shape_of_every_stage(name):
    model, shapes = meta(name), []
    stages = [module for key, module in model.named_children() if key.startswith("layer")]
    for stage in stages or [m for m in model.features if isinstance(m, nn.MaxPool2d)]:
        stage.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
    logits = model(torch.empty(2, 3, 32, 32, device="meta"))
    assert shapes == [(channels, side, side) for channels, side in STAGES[name]]
    assert logits.shape == (2, model.get_submodule(model.output_layer).out_features)


def test_zero_padding_shortcut_pixel_by_pixel():
    x = inputs(2, 3, 5, 6)
    out = PadShortcut(3, 7, 2)(x)
    assert out.shape == (2, 7, 3, 3)
    for b in range(2):
        for channel in range(7):
            for i in range(3):
                for j in range(3):
                    assert out[b, channel, i, j] == (x[b, channel, 2 * i, 2 * j] if channel < 3 else 0)
    nhwc = PadShortcut(3, 7, 2)(inputs(2, 3, 8, 8).contiguous(memory_format=torch.channels_last))
    assert nhwc.is_contiguous(memory_format=torch.channels_last)  # no copy is needed to add it


def test_a_block_is_torchvisions():
    for width_in, width, stride in ((4, 8, 2), (8, 8, 1)):
        ours = randomise(BasicBlock(width_in, width, stride, "projection"))
        downsample = nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        theirs = TorchvisionBlock(width_in, width, stride, downsample if stride == 2 else None).double()
        theirs.load_state_dict(ours.state_dict())
        x = inputs(2, width_in, 7, 7)
        torch.testing.assert_close(ours(x), theirs(x))
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_cifar_resnets_have_torchvisions_names():
    with torch.device("meta"):
        theirs = torchvision.models.ResNet(TorchvisionBlock, [5, 5, 5, 1], num_classes=10).state_dict()
    projection = meta("resnet32", shortcut="projection").state_dict()
    assert set(projection) == {key for key in theirs if not key.startswith("layer4")}
    assert set(meta("resnet32").state_dict()) == {key for key in projection if "downsample" not in key}


def test_the_whole_network_is_torchvisions_with_another_stem():
    ours = randomise(CifarResNet(2, (64, 128, 256), 10, 3, "projection", False))
    theirs = torchvision.models.ResNet(TorchvisionBlock, [2, 2, 2, 1])
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    theirs.layer4, theirs.fc = nn.Identity(), nn.Linear(256, 10)
    theirs.double().load_state_dict(ours.state_dict())
    x = inputs(2, 3, 8, 8)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_zero_padded_block_is_the_branch_plus_the_shortcut():
    block = randomise(BasicBlock(4, 8, 2, "pad")).eval()
    x = inputs(2, 4, 6, 6)
    branch = block.bn2(block.conv2(block.bn1(block.conv1(x)).relu()))
    shortcut = torch.zeros_like(branch)
    shortcut[:, :4] = x[:, :, ::2, ::2]
    torch.testing.assert_close(block(x), (branch + shortcut).relu())


BLOCKS = {
    "bottleneck": (PreactBottleneck, ["bn1", "relu", "conv1", "bn2", "relu", "conv2", "bn3", "relu", "conv3"]),
    "wide": (
        lambda *shape: PreactBasic(*shape, dropout=0.4),
        ["bn1", "relu", "conv1", "bn2", "relu", "dropout", "conv2"],
    ),
}


@pytest.mark.parametrize("kind", BLOCKS)
def test_preactivation_blocks(kind):
    """An untouched shortcut, negative values included; a projection sees the first activation; dropout comes last."""
    make, order = BLOCKS[kind]
    for shape in ((8, 8, 1), (4, 8, 1), (4, 8, 2)):
        block = randomise(make(*shape))
        assert block.conv1.stride == (shape[2], shape[2])  # of a bottleneck's three, the first, as He et al. release it
        x = inputs(2, shape[0], 6, 6)
        expected, activation = x, None
        for step in order:
            expected = expected.relu() if step == "relu" else block.get_submodule(step).eval()(expected)
            activation = expected if activation is None and step == "relu" else activation
        shortcut = x if shape == (8, 8, 1) else F.conv2d(activation, block.downsample.weight, stride=shape[2])
        torch.testing.assert_close(block.eval()(x), expected + shortcut)
        if kind == "wide":
            block.train().bn1.eval(), block.bn2.eval()
            torch.manual_seed(3)
            dropped = block(x)
            torch.manual_seed(3)
            activation = F.dropout(block.bn2(block.conv1(block.bn1(x).relu())).relu(), 0.4)
            torch.testing.assert_close(dropped, block.conv2(activation) + shortcut)


def test_dropout_is_an_option_of_wide_resnets():
    plain, dropping = create_model("wrn_16_4"), create_model("wrn_16_4", dropout=0.3)
    assert not [m for m in plain.modules() if isinstance(m, nn.Dropout)]
    assert len([m for m in dropping.modules() if isinstance(m, nn.Dropout) and m.p == 0.3]) == 6
    dropping.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert plain.eval()(x).equal(dropping.eval()(x))
    with pytest.raises(ValueError, match="dropout"):
        create_model("wrn_16_4", dropout=1.5)


@pytest.mark.parametrize("name", ["resnet20", "resnet164", "wrn_16_4", "vgg16_bn"])
def test_he_initialisation(name):
    torch.manual_seed(0)
    model = create_model(name)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 2000:
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.1)
    head = model.get_submodule(model.output_layer)
    assert not head.bias.any()
    assert head.weight.abs().max() <= 1 / math.sqrt(head.in_features)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_imagenet_resnets_are_torchvisions(name):
    torch.manual_seed(0)
    ours = create_model(name, num_classes=5)
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, num_classes=5)
    assert isinstance(ours, torchvision.models.ResNet)
    assert str(ours) == str(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(a.equal(b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("make", "last"),
    [
        (partial(create_model, "resnet20"), "bn2"),
        (partial(create_model, "resnet18"), "bn2"),
        (partial(ResNet, "bottleneck", [1, 1, 1, 1], 5, 3), "bn3"),
    ],
    ids=["resnet20", "resnet18", "bottleneck"],
)
def test_blocks_can_start_as_their_shortcuts(make, last):
    for zero in (True, False):
        model = make(zero_init_residual=zero)
        for _ in range(2):
            for key, p in model.named_parameters():
                if key.startswith("layer") and key.endswith(f".{last}.weight"):
                    assert p.any() != zero, key
                elif key.endswith(("bn1.weight", "downsample.1.weight")):
                    assert p.all(), key
            model.reset_parameters()


def test_other_input_channels_start_as_torchvisions_three():
    torch.manual_seed(0)
    model = create_model("resnet18", in_channels=1)
    for _ in range(2):
        assert model.conv1.weight.shape == (64, 1, 7, 7)
        assert model.conv1.weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 49)), rel=0.1)
        assert model.fc.bias.std().item() == pytest.approx(1 / math.sqrt(3 * 512), rel=0.1)
        model.reset_parameters()


def test_unknown_shortcut():
    with pytest.raises(ValueError, match=r"^shortcut must be 'pad' or 'projection', not 'A'$"):
        create_model("resnet20", shortcut="A")

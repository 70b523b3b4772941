"""CIFAR ResNets: the published parameter counts, and what a block computes."""

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock as TorchvisionBlock

from comhe.zoo import create_model
from comhe.zoo.images.resnet_cifar import BasicBlock, CifarResNet, PadShortcut

from .conftest import count, inputs, meta, randomize

CIFAR = {  # blocks per stage, first width, parameters for 10 classes, what He et al. 2016 print (table 6)
    "resnet8": (1, 16, 75_290, None),
    "resnet20": (3, 16, 269_722, "0.27"),
    "resnet32": (5, 16, 464_154, "0.46"),
    "resnet44": (7, 16, 658_586, "0.66"),
    "resnet56": (9, 16, 853_018, "0.85"),
    "resnet110": (18, 16, 1_727_962, "1.7"),
    "resnet32_wide": (5, 64, 7_386_186, None),
}


@pytest.mark.usefixtures("without_values")
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
        ours = randomize(BasicBlock(width_in, width, stride, "projection"))
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


def test_the_network_is_torchvisions_with_another_stem():
    ours = randomize(CifarResNet(2, 64, 10, 3, "projection", False))
    theirs = torchvision.models.ResNet(TorchvisionBlock, [2, 2, 2, 1])
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    theirs.layer4, theirs.fc = nn.Identity(), nn.Linear(256, 10)
    theirs.double().load_state_dict(ours.state_dict())
    x = inputs(2, 3, 8, 8)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_zero_padded_block_is_the_branch_plus_the_shortcut():
    block = randomize(BasicBlock(4, 8, 2, "pad")).eval()
    x = inputs(2, 4, 6, 6)
    branch = block.bn2(block.conv2(block.bn1(block.conv1(x)).relu()))
    shortcut = torch.zeros_like(branch)
    shortcut[:, :4] = x[:, :, ::2, ::2]
    torch.testing.assert_close(block(x), (branch + shortcut).relu())


def test_unknown_shortcut():
    with pytest.raises(ValueError, match=r"^shortcut must be 'auto' or 'pad' or 'pad-both' or 'projection', not 'A'$"):
        create_model("resnet20", shortcut="A")

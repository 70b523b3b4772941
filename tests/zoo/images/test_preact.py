"""Pre-activation networks: the published parameter counts, and what a block computes."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from comhe.zoo import create_model
from comhe.zoo.images.preact import PreactBasic, PreactBottleneck

from .conftest import count, inputs, meta, norms, randomize

PREACT = {"resnet164": (18, 1_703_258), "resnet1001": (111, 10_327_706)}
WIDE = {"wrn_16_4": (2, 4, 2_748_890, 2_772_020), "wrn_28_10": (4, 10, 36_479_194, 36_536_884)}


@pytest.mark.usefixtures("without_values")
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


@pytest.mark.usefixtures("without_values")
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
        block = randomize(make(*shape))
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
    without, dropping = create_model("wrn_16_4"), create_model("wrn_16_4", dropout=0.3)
    assert not [m for m in without.modules() if isinstance(m, nn.Dropout)]
    assert len([m for m in dropping.modules() if isinstance(m, nn.Dropout) and m.p == 0.3]) == 6
    dropping.load_state_dict(without.state_dict())
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert without.eval()(x).equal(dropping.eval()(x))
    with pytest.raises(ValueError, match="dropout"):
        create_model("wrn_16_4", dropout=1.5)

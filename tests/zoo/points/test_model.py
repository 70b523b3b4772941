"""A sweep over all point networks: published sizes, gradients, state dicts, regularizers, compilation."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from comhe.errors import UsageError
from comhe.regularizers import create_regularizer
from comhe.zoo import create_model, list_models, model_domain
from comhe.zoo.points import auxiliary_loss

from .conftest import cloud, randomized, small

MODELS = ["dgcnn", "pointnet", "pointnet2_msg", "pointnet2_ssg", "pointnet_cls", "pointnet_t"]


def layers(widths, norm=2):
    """Weights of linear layers without bias and of batch norms of these widths."""
    return sum(a * b for a, b in pairwise(widths)) + norm * sum(widths[1:])


def output(a, b):
    return a * b + b


def expected_parameters(name, channels, classes):
    head = layers([1024, 512, 256]) + output(256, classes)
    if name == "pointnet":
        return layers([channels, 64, 64, 64, 128, 1024]) + head
    if name == "pointnet_t":
        body = layers([channels, 64, 64]) + layers([64, 64, 128, 1024])
        transforms = layers([channels, 64, 128, 1024, 512, 256]) + output(256, 9)
        transforms += layers([64, 64, 128, 1024, 512, 256]) + output(256, 64 * 64)
        return body + transforms + head
    if name == "pointnet_cls":
        body = layers([channels, 64]) + layers([64, 128, 1024])
        transforms = layers([channels, 64, 128, 1024, 512, 256]) + output(256, 9)
        transforms += layers([64, 64, 128, 1024, 512, 256]) + output(256, 64 * 64)
        return body + transforms + head
    if name == "pointnet2_ssg":
        first, second = [[64, 64, 128]], [[128, 128, 256]]
    elif name == "pointnet2_msg":
        first, second = [[32, 32, 64], [64, 64, 128], [64, 96, 128]], [[64, 64, 128], [128, 128, 256], [128, 128, 256]]
    else:
        edges = sum(layers([2 * a, b]) for a, b in ((channels, 64), (64, 64), (64, 128), (128, 256)))
        return edges + layers([512, 1024]) + layers([2048, 512, 256]) + output(256, classes)
    total, width = head, channels
    for level in (first, second):
        total += sum(layers([width, *widths]) for widths in level)
        width = 3 + sum(widths[-1] for widths in level)
    return total + layers([width, 256, 512, 1024])


# Of the released networks with 40 classes and no normals, less the biases before batch norm, which do nothing.
PUBLISHED = {
    "pointnet": 817_512,
    "pointnet_cls": 3_465_521,
    "pointnet_t": 3_473_969,
    "pointnet2_ssg": 1_472_360,
    "pointnet2_msg": 1_742_856,
    "dgcnn": 1_809_320,
}


def test_the_networks_are_in_the_registry():
    assert list_models(domain="points") == MODELS
    assert model_domain("pointnet2_ssg") == "points"


@pytest.mark.parametrize("channels", [3, 6])
@pytest.mark.parametrize("name", MODELS)
def test_sizes_are_the_published_ones(name, channels):
    model = create_model(name, in_channels=channels)
    count = sum(p.numel() for p in model.parameters())
    assert count == expected_parameters(name, channels, 40)
    if channels == 3:
        assert count == PUBLISHED[name]
    biased = {n for n, m in model.named_modules() if isinstance(m, nn.Linear) and m.bias is not None}
    assert all(n.endswith("head.output") for n in biased)


@pytest.mark.parametrize("channels", [3, 6])
@pytest.mark.parametrize("name", MODELS)
class TestEveryModel:
    def test_trains_through_every_parameter(self, name, channels):
        model, x = small(name, in_channels=channels), cloud(channels=channels)
        logits = model(x)
        assert logits.shape == (3, 5)
        (F.cross_entropy(logits, torch.tensor([0, 1, 2])) + model.auxiliary_loss()).backward()
        for key, p in model.named_parameters():
            assert p.grad is not None, key
            assert p.grad.isfinite().all(), key
        # A transform's last layer starts at zero and lets no gradient through to the layers below it.
        moved = {key for key, p in model.named_parameters() if p.grad.any()}
        assert {key for key, _ in model.named_parameters()} - moved <= {
            key for key, _ in model.named_parameters() if "_transform" in key and "output" not in key
        }

    def test_state_dict_round_trip_and_reset(self, name, channels):
        model, x = randomized(small(name, in_channels=channels)).eval(), cloud(channels=channels)
        other = small(name, in_channels=channels).eval()
        fresh = copy.deepcopy(other.state_dict())
        assert not torch.equal(model(x), other(x))
        other.load_state_dict(model.state_dict())
        assert torch.equal(model(x), other(x))
        torch.manual_seed(7)
        other.reset_parameters()
        first = copy.deepcopy(other.state_dict())
        torch.manual_seed(7)
        other.reset_parameters()
        for key, value in other.state_dict().items():
            assert value.equal(first[key]), key
            if value.dim() < 2 or "_transform.head.output" in key:  # batch norms, biases, and the transforms' zeros
                assert value.equal(fresh[key]), key

    def test_the_input_is_checked(self, name, channels):
        with pytest.raises(ValueError, match=rf"x must be \[B, N, {channels}\], points as rows.*; transpose it"):
            small(name, in_channels=channels)(torch.zeros(2, channels, 50))
        with pytest.raises(ValueError, match="in_channels must be at least 3, the coordinates, not 2"):
            create_model(name, in_channels=2)


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_matrix_can_be_regularized(name):
    model = create_model(name)
    regularizer = create_regularizer("hs-mhe", model)
    matrices = {n.removesuffix(".weight") for n, p in model.named_parameters() if p.dim() == 2}
    assert {layer.name for layer in regularizer.layers} == matrices
    assert not regularizer.skipped
    assert [layer.name for layer in regularizer.layers if layer.role == "output"] == ["head.output"]


@pytest.mark.parametrize("name", ["pointnet", "pointnet2_ssg"])
def test_exported(name):
    model, x = randomized(small(name)).eval(), cloud(2, 24)
    with torch.no_grad():
        program = torch.export.export(model, (x,)).module()
        other = cloud(2, 24, seed=2)
        torch.testing.assert_close(program(other), model(other))


@pytest.mark.parametrize("name", ["pointnet", "pointnet_t", "pointnet2_ssg", "dgcnn"])
def test_learns_to_tell_a_sphere_from_a_ball(name):
    model = small(name, num_classes=2)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    g = torch.Generator().manual_seed(0)
    y = torch.arange(8) % 2
    losses = []
    for _ in range(20):
        x = F.normalize(torch.randn(8, 32, 3, generator=g), dim=-1)
        x = x * torch.where(y[:, None, None] == 1, torch.rand(8, 32, 1, generator=g), 1)
        loss = F.cross_entropy(model(x), y) + model.auxiliary_loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])


def test_the_auxiliary_loss_of_any_module():
    assert auxiliary_loss(nn.Linear(3, 2)) == 0.0
    model = small("pointnet_t")
    model(cloud())
    assert auxiliary_loss(model).equal(model.auxiliary_loss())


def test_arrays_and_double_precision_are_told():
    model, x = create_model("pointnet", num_classes=2).eval(), torch.rand(1, 30, 3, dtype=torch.float64)
    with pytest.raises(UsageError, match="a tensor, not ndarray"):
        model(x.numpy())
    with pytest.raises(UsageError, match=r"torch\.float64, the model has torch\.float32; convert x"):
        model(x)
    assert model.double()(x).dtype == torch.float64

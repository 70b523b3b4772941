"""The point networks: published shapes, invariances, the model's own loss, and what others do with them."""

import copy
import pickle
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from comhe.regularizers import create_regularizer
from comhe.zoo import create_model, list_models, model_domain
from comhe.zoo.points import PointNet2, Scale, farthest_point_sampling, group

MODELS = ["dgcnn", "pointnet", "pointnet2_msg", "pointnet2_ssg", "pointnet_t"]


def cloud(batch=3, size=40, channels=3, seed=0):
    """Points on the unit sphere, where balls of 0.2 hold few of them."""
    x = torch.randn(batch, size, channels, generator=torch.Generator().manual_seed(seed))
    return torch.cat((F.normalize(x[..., :3], dim=-1), x[..., 3:]), -1)


def small(name, **options):
    """The model, or for PointNet++ the same with fewer centres and points to a ball."""
    torch.manual_seed(0)
    options = {"num_classes": 5, "in_channels": 3, "dropout": 0.0} | options
    if name.startswith("pointnet2"):
        scales = [Scale(0.5, 6, (8, 8, 12))], [Scale(0.9, 5, (8, 12, 12))]
        if name.endswith("msg"):
            scales = [scales[0][0], Scale(0.7, 8, (6, 8, 10))], [scales[1][0], Scale(1.2, 6, (10, 8, 8))]
        return PointNet2(options["in_channels"], options["num_classes"], (12, 6), scales, options["dropout"])
    return create_model(name, **options)


def randomized(model):
    """The model with transforms that are not the identity, gammas of both signs and running statistics of data."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d)]
    with torch.no_grad():
        for name, module in model.named_modules():
            if name.endswith("transform.head.output"):
                nn.init.normal_(module.weight, std=0.02)
        for norm in norms:
            norm.weight.uniform_(-0.5, 2)
            norm.bias.uniform_(-0.3, 0.3)
            norm.momentum = 1.0
        model.train()(cloud(8, channels=model.in_channels, seed=9))
        for norm in norms:
            norm.momentum = 0.1
    return model


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
        assert not torch.equal(model(x), other(x))
        other.load_state_dict(model.state_dict())
        assert torch.equal(model(x), other(x))
        torch.manual_seed(7)
        other.reset_parameters()
        first = copy.deepcopy(other.state_dict())
        torch.manual_seed(7)
        other.reset_parameters()
        fresh = small(name, in_channels=channels).state_dict()
        for key, value in other.state_dict().items():
            assert value.equal(first[key]), key
            if value.dim() < 2 or "_transform.head.output" in key:  # batch norms, biases, and the transforms' zeros
                assert value.equal(fresh[key]), key

    def test_the_input_is_checked(self, name, channels):
        with pytest.raises(ValueError, match=rf"x must be \[B, N, {channels}\], points as rows.*; transpose it"):
            small(name, in_channels=channels)(torch.zeros(2, channels, 50))
        with pytest.raises(ValueError, match="in_channels must be at least 3, the coordinates, not 2"):
            create_model(name, in_channels=2)


@pytest.mark.parametrize("name", ["pointnet", "pointnet_t", "dgcnn"])
def test_the_order_of_the_points_does_not_matter(name):
    model, x = randomized(small(name)).eval(), cloud(size=64)
    shuffled = x[:, torch.randperm(64, generator=torch.Generator().manual_seed(1))]
    if name == "pointnet":
        assert model(shuffled).equal(model(x))
    torch.testing.assert_close(model(shuffled), model(x), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(model(cloud(size=64, seed=1)), model(x), atol=1e-2)


@pytest.mark.parametrize("scales", [1, 2])
def test_only_the_start_depends_on_the_order_of_the_points(scales):
    """Where no ball holds more points than are taken of it."""
    torch.manual_seed(0)
    levels = [Scale(0.5, 24, (8, 12)), Scale(0.7, 24, (6, 10))][:scales], [Scale(0.9, 12, (8, 12))]
    model, x = randomized(PointNet2(3, 5, (12, 6), levels, 0.0)).eval(), cloud(2, 24)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    shuffled, start = x[:, order], (order == 0).nonzero().flatten().expand(2)
    torch.testing.assert_close(model(shuffled, start), model(x), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(model(cloud(2, 24, seed=1)), model(x), atol=1e-2)


def test_evaluation_samples_from_point_0_and_training_at_random():
    model, x = small("pointnet2_ssg"), cloud()
    assert model.eval()(x).equal(model(x, torch.zeros(3, dtype=torch.int64)))
    model.train()
    torch.manual_seed(1)
    a = model(x)
    assert not a.equal(model(x))
    torch.manual_seed(1)
    assert a.equal(model(x))
    start = torch.tensor([4, 0, 9])
    assert model(x, start).equal(model(x, start))


def test_centres_of_the_second_level_are_farthest_points_of_the_first():
    x, seen = cloud(2, 60), []
    model = small("pointnet2_ssg").eval()
    for level in model.levels:
        level.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[2]))
    model(x)
    first = group(x, farthest_point_sampling(x, 12))
    assert seen[0].equal(first)
    assert seen[1].equal(group(first, farthest_point_sampling(first, 6)))


def test_the_transforms_loss():
    model, x = small("pointnet_t", orthogonality=0.01), cloud()
    with pytest.raises(RuntimeError, match=r"call model\(x\) first"):
        model.auxiliary_loss()
    model(x)
    assert model.auxiliary_loss().item() == 0  # the identity
    randomized(model)
    matrices = []
    handle = model.feature_transform.register_forward_hook(lambda *a: matrices.append(a[2]))
    model(x)
    handle.remove()
    expected = sum((t @ t.T - torch.eye(64)).square().sum() for t in matrices[0]) * 0.01 / 2
    loss = model.auxiliary_loss()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert model.feature_transform.head.output.weight.grad.any()
    model.eval()(x)
    with pytest.raises(RuntimeError, match="last forward in training"):
        model.auxiliary_loss()
    other = small("pointnet")
    other(x)
    assert other.auxiliary_loss().item() == 0


def test_a_model_that_has_just_been_trained_can_be_copied():
    model, x = small("pointnet_t"), cloud()
    model(x)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert copied.eval()(x).equal(model.eval()(x))
        model.train()


def test_the_loss_follows_substituted_parameters():
    model, x = randomized(small("pointnet_t")), cloud()
    parameters = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    (functional_call(model, parameters, (x,)).sum() * 0 + model.auxiliary_loss()).backward()
    assert parameters["feature_transform.head.output.weight"].grad.any()
    assert model.feature_transform.head.output.weight.grad is None


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_matrix_can_be_regularized(name):
    model = create_model(name)
    regularizer = create_regularizer("hs-mhe", model)
    matrices = {n.removesuffix(".weight") for n, p in model.named_parameters() if p.dim() == 2}
    assert {layer.name for layer in regularizer.layers} == matrices
    assert not regularizer.skipped
    assert [layer.name for layer in regularizer.layers if layer.role == "output"] == ["head.output"]


def test_transforms_can_be_left_out_of_a_regularizer():
    model = create_model("pointnet_t")
    regularizer = create_regularizer("hs-mhe", model, exclude="*_transform.head.output")
    left = {item.name for item in regularizer.skipped}
    assert left == {"input_transform.head.output", "feature_transform.head.output"}
    regularizer = create_regularizer("hs-mhe", model, exclude="*_transform.*")
    assert {layer.name.split(".")[0] for layer in regularizer.layers} == {"local", "features", "head"}


def test_compiled_with_its_loss():
    model, x = randomized(small("pointnet_t")), cloud(2, 24)
    expected, loss = model(x), model.auxiliary_loss()
    compiled = torch.compile(model, backend="eager")
    torch.testing.assert_close(compiled(x), expected)
    torch.testing.assert_close(compiled.auxiliary_loss(), loss)
    torch.compiler.reset()


@pytest.mark.parametrize("name", ["pointnet", "pointnet2_ssg"])
def test_exported(name):
    model, x = randomized(small(name)).eval(), cloud(2, 24)
    with torch.no_grad():
        program = torch.export.export(model, (x,)).module()
        other = cloud(2, 24, seed=2)
        torch.testing.assert_close(program(other), model(other))


def test_dgcnn_needs_as_many_points_as_neighbours():
    with pytest.raises(ValueError, match="cannot find 20 nearest of 19 points"):
        small("dgcnn")(cloud(size=19))


@pytest.mark.parametrize("name", ["pointnet", "pointnet_t", "pointnet2_ssg", "dgcnn"])
def test_learns_to_tell_a_sphere_from_a_ball(name):
    model = small(name, num_classes=2)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    g = torch.Generator().manual_seed(0)
    y = torch.arange(8) % 2
    losses = []
    for _ in range(12):
        x = F.normalize(torch.randn(8, 32, 3, generator=g), dim=-1)
        x = x * torch.where(y[:, None, None] == 1, torch.rand(8, 32, 1, generator=g), 1)
        loss = F.cross_entropy(model(x), y) + model.auxiliary_loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])

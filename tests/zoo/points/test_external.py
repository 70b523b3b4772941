"""State dicts of public implementations give the outputs of those implementations.

The networks below have their names and shapes, channels first; sampling starts at point 0 and balls are open.
"""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from comhe.zoo import create_model
from comhe.zoo.points import DGCNN, PointNet, PointNet2, ball_query, farthest_point_sampling, model_from_state

CLASSES = 7
FEWER_CENTERS = (24, 12)  # than 512 and 128, of clouds of 24 points


def conv(dimensions, a, b, bias=True):
    return (nn.Conv1d, nn.Conv2d)[dimensions - 1](a, b, 1, bias=bias)


class Transform(nn.Module):
    def __init__(self, channels, k):
        super().__init__()
        self.k = k
        for i, (a, b) in enumerate(((channels, 64), (64, 128), (128, 1024)), 1):
            self.add_module(f"conv{i}", conv(1, a, b))
            self.add_module(f"bn{i}", nn.BatchNorm1d(b))
        self.fc1, self.fc2, self.fc3 = nn.Linear(1024, 512), nn.Linear(512, 256), nn.Linear(256, k * k)
        self.bn4, self.bn5 = nn.BatchNorm1d(512), nn.BatchNorm1d(256)

    def forward(self, x):
        for i in (1, 2, 3):
            x = F.relu(getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)))
        x = x.max(2)[0]
        x = F.relu(self.bn4(self.fc1(x)))
        x = F.relu(self.bn5(self.fc2(x)))
        return self.fc3(x).view(-1, self.k, self.k) + torch.eye(self.k).to(x)


class Encoder(nn.Module):
    def __init__(self, channels, transform):
        super().__init__()
        self.stn = Transform(channels, 3)
        self.conv1, self.conv2, self.conv3 = conv(1, channels, 64), conv(1, 64, 128), conv(1, 128, 1024)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm1d(64), nn.BatchNorm1d(128), nn.BatchNorm1d(1024)
        self.transform = transform
        if transform:
            self.fstn = Transform(64, 64)

    def forward(self, x):
        moved = (x[:, :3].mT @ self.stn(x)).mT
        x = F.relu(self.bn1(self.conv1(torch.cat((moved, x[:, 3:]), 1))))
        if self.transform:
            x = (x.mT @ self.fstn(x)).mT
        x = F.relu(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x)).max(2)[0]


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(1024, 512), nn.Linear(512, 256), nn.Linear(256, CLASSES)
        self.bn1, self.bn2 = nn.BatchNorm1d(512), nn.BatchNorm1d(256)

    def classify(self, x):
        x = F.relu(self.bn1(self.fc1(x)))
        return self.fc3(F.relu(self.bn2(self.fc2(x))))


class PublicPointNet(Classifier):
    def __init__(self, channels, transform=True):
        super().__init__()
        self.feat = Encoder(channels, transform)

    def forward(self, x):
        return self.classify(self.feat(x.mT))


def take(rows, index):
    return torch.stack([cloud[i] for cloud, i in zip(rows, index, strict=True)])


def run(x, convs, norms):
    """[B, M, K, C] through 1 x 1 convolutions, and the maximum over K."""
    x = x.permute(0, 3, 2, 1)
    for layer, norm in zip(convs, norms, strict=True):
        x = F.relu(norm(layer(x)))
    return x.max(2)[0].mT


def stacks(widths):
    convs = nn.ModuleList(conv(2, a, b) for a, b in pairwise(widths))
    return convs, nn.ModuleList(nn.BatchNorm2d(b) for b in widths[1:])


class Single(nn.Module):
    def __init__(self, widths, radius=None, count=None):
        super().__init__()
        self.mlp_convs, self.mlp_bns = stacks(widths)
        self.radius, self.count = radius, count

    def forward(self, points, features, centers):
        if self.radius is None:
            return run(torch.cat((points, features), -1)[:, None], self.mlp_convs, self.mlp_bns)
        index = ball_query(points, centers, self.radius, self.count)
        x = take(points, index) - centers[:, :, None]
        if features is not None:
            x = torch.cat((x, take(features, index)), -1)
        return run(x, self.mlp_convs, self.mlp_bns)


class Multi(nn.Module):
    def __init__(self, channels, scales):
        super().__init__()
        self.scales = scales
        made = [stacks([channels, *widths]) for _, _, widths in scales]
        self.conv_blocks, self.bn_blocks = (nn.ModuleList(part) for part in zip(*made, strict=True))

    def forward(self, points, features, centers):
        result = []
        for (radius, count, _), convs, norms in zip(self.scales, self.conv_blocks, self.bn_blocks, strict=True):
            index = ball_query(points, centers, radius, count)
            x = take(points, index) - centers[:, :, None]
            if features is not None:
                x = torch.cat((take(features, index), x), -1)  # features first
            result.append(run(x, convs, norms))
        return torch.cat(result, -1)


class PublicPointNet2(Classifier):
    def __init__(self, channels, multi):
        super().__init__()
        if multi:
            first = (0.1, 16, (32, 32, 64)), (0.2, 32, (64, 64, 128)), (0.4, 128, (64, 96, 128))
            second = (0.2, 32, (64, 64, 128)), (0.4, 64, (128, 128, 256)), (0.8, 128, (128, 128, 256))
            self.sa1, self.sa2 = Multi(channels, first), Multi(323, second)
            self.sa3 = Single([643, 256, 512, 1024])
        else:
            self.sa1 = Single([channels, 64, 64, 128], 0.2, 32)
            self.sa2, self.sa3 = Single([131, 128, 128, 256], 0.4, 64), Single([259, 256, 512, 1024])

    def forward(self, x):
        points, features = x[..., :3], x[..., 3:] if x.shape[-1] > 3 else None
        for level, number in zip((self.sa1, self.sa2), FEWER_CENTERS, strict=True):
            centers = take(points, farthest_point_sampling(points, number))
            points, features = centers, level(points, features, centers)
        return self.classify(self.sa3(points, features, None)[:, 0])


class PublicDGCNN(nn.Module):
    def __init__(self, channels):
        super().__init__()
        widths = ((2 * channels, 64), (128, 64), (128, 128), (256, 256), (512, 1024))
        for i, (a, b) in enumerate(widths, 1):
            norm = (nn.BatchNorm2d if i < 5 else nn.BatchNorm1d)(b)
            self.add_module(f"bn{i}", norm)  # a second name for what is in the sequence
            self.add_module(f"conv{i}", nn.Sequential(conv(1 + (i < 5), a, b, False), norm, nn.LeakyReLU(0.2)))
        self.linear1, self.bn6 = nn.Linear(2048, 512, bias=False), nn.BatchNorm1d(512)
        self.linear2, self.bn7 = nn.Linear(512, 256), nn.BatchNorm1d(256)
        self.linear3 = nn.Linear(256, CLASSES)

    def forward(self, x):
        layers = []
        for i in range(1, 5):
            index = torch.cdist(x, x).topk(20, largest=False)[1]
            own = x[:, :, None].expand(-1, -1, 20, -1)
            edges = torch.cat((take(x, index) - own, own), -1).permute(0, 3, 1, 2)
            x = getattr(self, f"conv{i}")(edges).max(3)[0].mT
            layers.append(x)
        x = self.conv5(torch.cat(layers, -1).mT)
        x = torch.cat((x.max(2)[0], x.mean(2)), 1)
        x = F.leaky_relu(self.bn6(self.linear1(x)), 0.2)
        x = F.leaky_relu(self.bn7(self.linear2(x)), 0.2)
        return self.linear3(x)


IMPLEMENTATIONS = {
    "fxia22 without feature transform": (lambda: PublicPointNet(3, False), PointNet, 3),
    "yanx27 PointNet": (lambda: PublicPointNet(3), PointNet, 3),
    "yanx27 PointNet with normals": (lambda: PublicPointNet(6), PointNet, 6),
    "yanx27 SSG": (lambda: PublicPointNet2(3, False), PointNet2, 3),
    "yanx27 SSG with normals": (lambda: PublicPointNet2(6, False), PointNet2, 6),
    "yanx27 MSG": (lambda: PublicPointNet2(3, True), PointNet2, 3),
    "yanx27 MSG with normals": (lambda: PublicPointNet2(6, True), PointNet2, 6),
    "WangYueFt DGCNN": (lambda: PublicDGCNN(3), DGCNN, 3),
}


def points(channels, batch=1, size=24):
    g = torch.Generator().manual_seed(batch)
    return torch.rand(batch, size, channels, generator=g, dtype=torch.float64) * 1.2 - 0.6


def trained(build, channels):
    """A public network after a step of statistics, so that no running mean is zero and no bias without effect."""
    torch.manual_seed(0)
    theirs = build().double()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
            module.momentum = 1.0
    with torch.no_grad():
        theirs(points(channels, batch=4))
    return theirs.eval()


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_weights_give_the_outputs_of_their_implementation(name):
    build, cls, channels = IMPLEMENTATIONS[name]
    theirs = trained(build, channels)
    state = {f"module.{key}": value for key, value in theirs.state_dict().items()}
    model = model_from_state(state).double().eval()
    assert isinstance(model, cls)
    assert (model.in_channels, model.num_classes) == (channels, CLASSES)
    if cls is PointNet2:
        assert model.centers == (512, 128)
        model.centers = FEWER_CENTERS
    x = points(channels)
    with torch.no_grad():
        torch.testing.assert_close(model(x), theirs(x), atol=1e-4, rtol=1e-4)  # parameters were float32 in between
        assert not torch.allclose(model(x), model(x.flip(-1)), atol=1e-2)


@pytest.mark.parametrize(("theirs", "name"), [("yanx27 SSG", "pointnet2_ssg"), ("WangYueFt DGCNN", "dgcnn")])
def test_files_are_loaded_into_the_network_they_belong_to(theirs, name, tmp_path):
    state = IMPLEMENTATIONS[theirs][0]().state_dict()
    torch.save({"model_state_dict": state}, tmp_path / "best_model.pth")
    model = create_model(name, weights=tmp_path / "best_model.pth", num_classes=CLASSES)
    expected = model_from_state(state).state_dict()
    assert all(value.equal(expected[key]) for key, value in model.state_dict().items())
    model = create_model(name, weights=tmp_path / "best_model.pth", num_classes=CLASSES + 1, swap_head=True)
    assert model.state_dict()["head.linears.0.weight"].equal(expected["head.linears.0.weight"])
    with pytest.raises(ValueError, match="do not fit this PointNet "):
        create_model("pointnet", weights=tmp_path / "best_model.pth", num_classes=CLASSES)


def test_an_unknown_or_incomplete_layout_is_refused():
    with pytest.raises(ValueError, match=r"no known layout has names such as layer\.weight"):
        model_from_state({"layer.weight": torch.zeros(2, 2)})
    state = PublicPointNet(3).state_dict()
    with pytest.raises(ValueError, match=r"has feat\.other and 0 more names"):
        model_from_state(state | {"feat.other": torch.zeros(1)})
    del state["feat.bn2.running_var"]
    with pytest.raises(ValueError, match=r"lacks 'feat\.bn2\.running_var'"):
        model_from_state(state)

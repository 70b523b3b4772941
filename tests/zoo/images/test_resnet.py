"""What is added to torchvision's ResNet, and its published weights."""

import math
import pickle
from fractions import Fraction
from functools import partial

import pytest
import torch
import torchvision

from comhe.zoo import create_model
from comhe.zoo.images.resnet import ResNet

from ..conftest import same


@pytest.mark.parametrize(
    ("make", "last"),
    [
        (partial(create_model, "resnet20"), "bn2"),
        (partial(create_model, "resnet18"), "bn2"),
        (partial(ResNet, "bottleneck", [1, 1, 1, 1], 5, 3), "bn3"),
    ],
    ids=["resnet20", "resnet18", "bottleneck"],
)
def test_blocks_can_start_as_their_shortcuts(monkeypatch, make, last):
    for name in ("kaiming_normal_", "kaiming_uniform_"):
        monkeypatch.setattr(torch.nn.init, name, lambda weight, **options: None)  # only batch norms are looked at
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


@pytest.fixture
def imagenet(tmp_path, monkeypatch):
    """A state dict for 1000 classes where torchvision looks for its download of ResNet-18's."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(7)
    state = torchvision.models.resnet18().state_dict()
    torch.save(state, folder / torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url.rpartition("/")[2])
    return state


def test_torchvisions_weights(imagenet):
    assert same(create_model("resnet18", weights="IMAGENET1K_V1").state_dict(), imagenet)
    with pytest.raises(
        ValueError, match=r"for 1000 classes, this ResNet has 10; build the model with num_classes=1000, or"
    ):
        create_model("resnet18", weights="IMAGENET1K_V1", num_classes=10)
    model = create_model("resnet18", weights="IMAGENET1K_V1", num_classes=10, swap_head=True)
    assert model.fc.weight.shape == (10, 512)
    assert all(value.equal(imagenet[key]) for key, value in model.state_dict().items() if not key.startswith("fc."))
    with pytest.raises(ValueError, match=r"conv1.weight \[64, 3, 7, 7\], not \[64, 1, 7, 7\]"):
        create_model("resnet18", weights="IMAGENET1K_V1", in_channels=1)
    with pytest.raises(ValueError, match=r"^resnet18 has no weights 'V9'; torchvision has IMAGENET1K_V1$"):
        create_model("resnet18", weights="V9")


def test_downloads_are_not_unpickled_freely(imagenet, tmp_path):
    (file,) = tmp_path.rglob("resnet18*")
    torch.save({**imagenet, "conv1.weight": Fraction(1, 2)}, file)
    with pytest.raises(pickle.UnpicklingError):
        create_model("resnet18", weights="IMAGENET1K_V1")

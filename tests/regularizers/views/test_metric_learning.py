"""Losses that own a classifier: their centers of classes are a layer, and the output layer."""

import warnings

import pytest
import torch
from torch import nn

from comhe.regularizers import create_regularizer, hyperspherical_energy, neurons
from comhe.regularizers.selection import select


class Loss(nn.Module):
    """As one of the library, which the view knows by its name."""

    __module__ = "pytorch_metric_learning.losses.own_loss"

    def __init__(self, name, shape, **numbers):
        super().__init__()
        vars(self).update(numbers)
        self.register_parameter(name, nn.Parameter(torch.randn(shape, dtype=torch.float64)))


@pytest.mark.parametrize("name", ["W", "weight", "fc", "proxies"])
def test_a_class_has_one_row(name):
    loss = Loss(name, (10, 6) if name == "proxies" else (6, 10))
    centers = getattr(loss, name)
    assert neurons(loss).equal(centers if name == "proxies" else centers.T)
    model = nn.ModuleDict({"trunk": nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 6)), "loss": loss})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [layer.role for layer in select(model.double()).layers] == ["hidden", "hidden", "output"]


@pytest.mark.parametrize("number", ["sub_centers", "centers_per_class"])
def test_centers_of_one_class_are_not_driven_apart(number):
    loss = Loss("W", (6, 5 * 3), num_classes=5, **{number: 3})
    loss.W.data = torch.randn(6, 5, dtype=torch.float64).repeat_interleave(3, 1)  # three equal ones for each class
    sets = neurons(loss)
    assert sets.shape == (3, 5, 6)
    assert sets[0].equal(sets[2])
    penalty = create_regularizer("mhe", loss, output=None)
    torch.testing.assert_close(penalty(), hyperspherical_energy(loss.W.T[::3]), rtol=1e-6, atol=0)


def test_a_loss_without_centers_has_no_layer():
    model = nn.ModuleDict({"trunk": nn.Linear(8, 6), "loss": Loss("beta", (7,))})
    found = select(model)
    assert [layer.name for layer in found.layers] == ["trunk"]
    assert not found.skipped


def test_the_librarys_own():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    names = "ArcFaceLoss CosFaceLoss LargeMarginSoftmaxLoss NormalizedSoftmaxLoss SphereFaceLoss ProxyNCALoss"
    for name in (names + " ProxyAnchorLoss SoftTripleLoss SubCenterArcFaceLoss").split():
        loss = getattr(losses, name)(num_classes=5, embedding_size=16)
        w = neurons(loss)
        assert w.shape[-2:] == (5, 16), name
        x = torch.randn(7, 16)
        cosines = nn.functional.normalize(x) @ nn.functional.normalize(w, dim=-1).mT
        if hasattr(loss, "get_cosine"):
            found = cosines if w.dim() == 2 else cosines.amax(0)
            torch.testing.assert_close(loss.get_cosine(x), found, atol=1e-5, rtol=1e-4)
    assert neurons(losses.P2SGradLoss(16, 5)).shape == (5, 16)

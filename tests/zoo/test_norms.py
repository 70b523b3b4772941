"""Batch norm over several processes, here with one of them; tests/trust/test_ranks.py has more."""

import copy

import pytest
import torch
from torch import distributed, nn
from torch.nn import functional as F

from comhe.zoo import create_model
from comhe.zoo.norms import GlobalBatchNorm, convert_global_batch_norm, update_running


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.setattr(distributed, "all_reduce", lambda x: None)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("shape", [(8, 5), (6, 5, 4), (6, 5, 3, 4)])
def test_it_is_batch_norm(shape, momentum, affine):
    kinds = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}
    norm = kinds[len(shape)](5, momentum=momentum, affine=affine).double()
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    ours = copy.deepcopy(norm)
    ours = convert_global_batch_norm(ours)
    assert isinstance(ours, GlobalBatchNorm)
    for _ in range(2):
        x, slope = (torch.randn(shape, dtype=torch.float64) * 3 + 10 for _ in range(2))
        results = []
        for module in (norm, ours):
            given = x.clone().requires_grad_()
            module.zero_grad()
            out = module(given)
            out.backward(slope)
            results.append([out, given.grad, *(p.grad for p in module.parameters()), *module.buffers()])
        for theirs, mine in zip(*results, strict=True):
            torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(ours.eval()(x), norm.eval()(x))


def test_a_batch_in_half_precision_has_statistics_in_single():
    norm = nn.BatchNorm2d(3)
    norm = convert_global_batch_norm(norm)
    x = torch.randn(64, 3, 5, 5).bfloat16() + 100
    assert norm(x).dtype == torch.bfloat16
    torch.testing.assert_close(norm.running_mean, 0.1 * x.float().mean((0, 2, 3)))


@pytest.mark.parametrize(("name", "points"), [("pointnet_t", 20), ("pointnet2_ssg", 40), ("dgcnn", 24)])
def test_unfused_point_layers_are_the_fused_ones(name, points):
    torch.manual_seed(0)
    fused = create_model(name, num_classes=5, dropout=0.0).double()
    if name == "pointnet2_ssg":
        fused.centers = (40, 20)
    unfused = copy.deepcopy(fused)
    convert_global_batch_norm(unfused)
    x, labels = torch.randn(3, points, 3, dtype=torch.float64), torch.arange(3)
    losses = []
    for model in (fused, unfused):
        torch.manual_seed(1)  # of the points at which PointNet++ begins to sample
        loss = F.cross_entropy(model.train()(x), labels) + model.auxiliary_loss()
        loss.backward()
        losses.append(loss)
    torch.testing.assert_close(*losses, rtol=1e-6, atol=0.0)
    for (key, theirs), mine in zip(fused.named_parameters(), unfused.parameters(), strict=True):
        scale = theirs.grad.abs().max().item()
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-5, atol=1e-6 * scale + 1e-12, msg=key)
    for (key, theirs), mine in zip(fused.named_buffers(), unfused.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-9, msg=key)


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
def test_running_statistics_are_batch_norms(momentum):
    ours, theirs = (nn.BatchNorm1d(3, momentum=momentum) for _ in range(2))
    for seed in range(3):
        x = torch.randn(20, 3, generator=torch.Generator().manual_seed(seed)) * 3 + 1
        theirs(x)
        update_running(ours, x.mean(0), x.var(0, correction=0), 20)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)


def test_without_running_statistics_nothing_happens():
    norm = nn.BatchNorm1d(3, track_running_stats=False)
    update_running(norm, torch.zeros(3), torch.ones(3), 20)
    assert norm.running_mean is None

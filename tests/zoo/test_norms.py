"""Batch norm over several processes, here with one of them; tests/trust/test_ranks.py has more."""

import copy

import pytest
import torch
from torch import distributed, nn
from torch.nn import functional as F

from comhe.zoo import create_model
from comhe.zoo.norms import GlobalBatchNorm, synchronise


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
    synchronise(ours)
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
    synchronise(norm)
    x = torch.randn(64, 3, 5, 5).bfloat16() + 100
    assert norm(x).dtype == torch.bfloat16
    torch.testing.assert_close(norm.running_mean, 0.1 * x.float().mean((0, 2, 3)))


@pytest.mark.parametrize(("name", "points"), [("pointnet_t", 20), ("pointnet2_ssg", 40), ("dgcnn", 24)])
def test_point_layers_in_plain_operations_are_the_fused_ones(name, points):
    torch.manual_seed(0)
    fused = create_model(name, num_classes=5, dropout=0.0).double()
    plain = copy.deepcopy(fused)
    synchronise(plain)
    x, labels = torch.randn(3, points, 3, dtype=torch.float64), torch.arange(3)
    losses = []
    for model in (fused, plain):
        torch.manual_seed(1)  # of the points at which PointNet++ begins to sample
        loss = F.cross_entropy(model.train()(x), labels) + model.auxiliary_loss()
        loss.backward()
        losses.append(loss)
    torch.testing.assert_close(*losses, rtol=1e-6, atol=0.0)
    for (key, theirs), mine in zip(fused.named_parameters(), plain.parameters(), strict=True):
        scale = theirs.grad.abs().max().item()
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-5, atol=1e-6 * scale + 1e-12, msg=key)
    for (key, theirs), mine in zip(fused.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-9, msg=key)

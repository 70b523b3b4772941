import math

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from comhe.regularizers import create_regularizer, diagnose, effective_rank, hyperspherical_energy


def test_by_hand():
    """Two neurons at 60 degrees, one orthogonal to both."""
    w = torch.tensor([[2.0, 0, 0], [0.5, math.sqrt(3) / 2, 0], [0, 0, 3.0]])
    found = diagnose(w)
    assert found.smallest_angle == pytest.approx(60, abs=1e-3)
    assert found.mean_angle == pytest.approx((60 + 90 + 90) / 3, abs=1e-3)
    assert found.coherence == pytest.approx(0.5)
    assert found.energy == pytest.approx((1 / 1 + 1 / 2 + 1 / 2) / 3)
    assert found.half_space_energy == pytest.approx(hyperspherical_energy(w, 2, True).item())
    assert found.dead == 0


def test_antipodes_are_coherent_but_far_apart():
    found = diagnose(torch.tensor([[1.0, 0.0], [-2.0, 0.0]]))
    assert found.smallest_angle == pytest.approx(180)
    assert found.coherence == pytest.approx(1)


def test_effective_rank():
    assert effective_rank(3 * torch.eye(5, 9)).item() == pytest.approx(5, rel=1e-5)
    assert effective_rank(torch.ones(4, 6)).item() == pytest.approx(1, rel=1e-3)
    assert effective_rank(torch.zeros(4, 6)).item() == 0
    values = torch.tensor([0.5, 0.25, 0.25])
    assert effective_rank(values.diag()).item() == pytest.approx(math.exp(1.5 * math.log(2)), rel=1e-5)
    assert effective_rank(torch.randn(2, 3, 4, 6)).shape == (2, 3)


def test_eigenvalues_of_a_matrix_on_a_gpu_are_computed_on_the_cpu(monkeypatch):
    """With tensors that have a device and a shape, and no numbers."""
    devices, eigvalsh = [], torch.linalg.eigvalsh
    monkeypatch.setattr(torch.linalg, "eigvalsh", lambda x: devices.append((x.device.type, x.shape)) or eigvalsh(x))
    with FakeTensorMode():
        rank = effective_rank(torch.empty(9, 40, device="cuda:0"))
    assert devices == [("cpu", (9, 9))]
    assert rank.device.type == "cuda"


def test_dead_neurons_are_counted_and_disturb_nothing():
    w = torch.randn(6, 20, generator=torch.Generator().manual_seed(0))
    w[2], w[4] = 0, w[4] * 1e-6
    found = diagnose(w)
    assert found.dead == 2
    assert all(math.isfinite(value) for value in vars(found).values())


@pytest.mark.parametrize("dead", [0, 5, 10, 15, 20])
def test_zero_neurons_are_dead_however_many_there_are(dead):
    w = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    w[:dead] = 0
    assert diagnose(w).dead == dead


def test_a_report_shows_them():
    model = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.Linear(6, 3))
    report = create_regularizer("mhe", model).report()
    assert report.layers[0].diagnostics == diagnose(model[0].weight.view(2, 3, -1))
    assert "eff. rank" in str(report)
    with pytest.raises(ValueError, match="one neuron a row"):
        diagnose(torch.zeros(1, 4))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_reported(bad):
    w = torch.eye(4).repeat(2, 1, 1)
    w[1, 2, 3] = bad
    assert [math.isnan(value) for value in effective_rank(w)] == [False, True]
    assert all(math.isnan(value) for name, value in vars(diagnose(w)).items() if name != "dead")
    model = nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 4))
    model[1].weight.data[0, 0] = bad
    first, second = create_regularizer("mhe", model).report().layers
    assert math.isfinite(first.diagnostics.energy)
    assert math.isnan(second.diagnostics.smallest_angle)

"""The moving average against its formula, and what a CUDA graph needs of it."""

import pytest
import torch

from comhe.regularizers.energies import sums
from comhe.train.engine import loop
from comhe.train.engine.ema import ExponentialMovingAverage
from comhe.train.engine.loop import fit
from comhe.train.graphs import GraphTask
from comhe.train.runs.run import Run

from ..recorded import FakeRecorder


def test_the_average_begins_with_the_first_weights():
    model = torch.nn.BatchNorm1d(3)
    ema, expected = ExponentialMovingAverage(model, 0.75), None
    for _ in range(4):
        with torch.no_grad():
            model.weight.copy_(torch.randn(3))
        model(torch.randn(5, 3))
        ema.update_parameters(model)
        ema.count()
        state = torch.stack((model.weight.detach(), model.running_mean))
        expected = state if expected is None else 0.75 * expected + 0.25 * state
    torch.testing.assert_close(torch.stack((ema.module.weight.detach(), ema.module.running_mean)), expected)
    assert ema.n_averaged == 4


def test_an_average_that_is_loaded_goes_on():
    model = torch.nn.Linear(2, 2)
    ema, again = (ExponentialMovingAverage(model, 0.5) for _ in range(2))
    ema.update_parameters(model)
    ema.count()
    again.load_state_dict(ema.state_dict())
    with torch.no_grad():
        model.weight.add_(2.0)
    again.update_parameters(model)
    torch.testing.assert_close(again.module.weight, model.weight - 1.0)


@pytest.mark.parametrize("recorder", [None, FakeRecorder()])
def test_steps_are_counted_also_where_they_are_replayed(tmp_path, recipe, monkeypatch, recorder):
    monkeypatch.setattr(sums, "BRANCHING", ())  # as on a GPU
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(loop, "make_recorder", lambda device, generators: recorder)
    run, counts = Run(tmp_path), []

    def look(row, epochs):
        counts.append(run.load_checkpoint()["ema"]["n_averaged"].item())

    fit(GraphTask(recipe.replace(ema=0.9)), run, look)
    assert counts == list(range(1, recipe.epochs + 1))

"""Averages of weights: their names, and lists without any."""

import pytest
import torch

from comhe.zoo import create_model, load_weights
from comhe.zoo.averages import AVERAGE, named_averages

from .conftest import same


@pytest.mark.parametrize("name", ["ema", "model_ema", "ema_model", "averaged_model", "swa_model", "shadow_params"])
def test_names_of_averages(name):
    assert AVERAGE.match(name)


@pytest.mark.parametrize("name", ["schema", "avgpool", "model", "shadowed", "swap"])
def test_other_names(name):
    assert not AVERAGE.match(name)


def test_lists_are_named_in_order_or_not_at_all():
    state = {"a": torch.zeros(2), "running_mean": torch.zeros(3), "b": torch.zeros(1)}
    whole = named_averages([torch.ones(2), torch.ones(3), torch.ones(1)], state)
    assert all(tensor.all() for tensor in whole.values())
    parameters = named_averages([torch.ones(2), torch.ones(1)], state)
    assert parameters["a"].all()
    assert not parameters["running_mean"].any()
    assert named_averages([torch.ones(1), torch.ones(2)], state) is named_averages([], state) is None


@pytest.mark.parametrize("parameters", [True, False])
def test_a_checkpoint_with_a_list_of_averages(parameters, tmp_path):
    """``ema_weights`` of a callback, in the order of the state dict; ``shadow_params``, in that of the parameters."""
    torch.manual_seed(0)
    model = create_model("resnet8", num_classes=5)
    state = model.state_dict()
    names = [name for name, _ in model.named_parameters()] if parameters else [*state]
    averages = [state[name] + 1 if state[name].is_floating_point() else state[name] for name in names]
    beside = {"ema": {"shadow_params": averages}} if parameters else {"callbacks": {"EMA": {"ema_weights": averages}}}
    key = "ema.shadow_params" if parameters else "callbacks.EMA.ema_weights"
    torch.save({"state_dict": state} | beside, tmp_path / "file.ckpt")
    expected = state | dict(zip(names, averages, strict=True))
    other = create_model("resnet8", num_classes=5)
    load_weights(other, tmp_path / "file.ckpt", key=key)
    assert same(other, expected)
    load_weights(other, tmp_path / "file.ckpt", key="state_dict")
    assert same(other, state)

"""What several tests of the zoo use."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import save
from torch import nn

from comhe.errors import ComheError
from comhe.zoo import cards, create_model, list_models, registry


@pytest.fixture
def clean_registry():
    """Models that a test registers are removed after it."""
    list_models()
    entries = dict(registry.entries)
    yield
    registry.entries.clear()
    registry.entries.update(entries)


def networks(deep, without=()):
    """Every network but some, as a parameter of tests; the deep ones, with the blocks of others, in the long form."""
    names = [name for name in list_models() if name not in without]
    return [pytest.param(name, marks=[pytest.mark.long] if name in deep else []) for name in names]


OPTIONS = {"in_channels": 5, "num_classes": 3, "hidden_channels": 4, "dropout": 0.5}


def write(folder, name, **changes):
    """A published GCN of random weights."""
    torch.manual_seed(len(name))
    state = create_model("gcn", **OPTIONS).state_dict()
    data = save({key: value.half() if value.dim() > 1 else value for key, value in state.items()})
    (folder / f"{name}.safetensors").write_bytes(data)
    card = {field: {} for field in cards.FIELDS} | {
        "name": name,
        "model": name.split(".")[0],
        "options": OPTIONS,
        "preprocessing": {"kind": "graphs", "features": 5},
        "file": f"{name}.safetensors",
        "sha256": hashlib.sha256(data).hexdigest(),
        "url": None,
    }
    (folder / f"{name}.json").write_text(json.dumps(card | changes))
    return {key: value.half().float() if value.dim() > 1 else value for key, value in state.items()}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(cards, "FOLDER", tmp_path)
    return tmp_path


@pytest.fixture
def state(folder):
    return write(folder, "gcn.cora-mhe")


def same(model, state):
    """Whether a model, or a state dict, has exactly these tensors."""
    ours = model.state_dict() if isinstance(model, nn.Module) else model
    return ours.keys() == state.keys() and all(value.equal(state[key]) for key, value in ours.items())


def message_of(call, *arguments, **options):
    """The message of the package's own error, one line."""
    with pytest.raises(ComheError) as error:
        call(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)

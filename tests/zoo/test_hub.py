"""What ``torch.hub`` finds in the repository."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from comhe.zoo import create_model, list_models

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def clean_modules():
    """hubconf imports the zoo a second time, by its folder's name."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("zoo", "hubconf"):
            del sys.modules[name]


def test_every_model_is_an_entry_point(clean_modules, monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY)
    spec = importlib.util.spec_from_file_location("hubconf", REPOSITORY / "hubconf.py")
    spec.loader.exec_module(hub := importlib.util.module_from_spec(spec))
    assert all(callable(getattr(hub, name)) for name in list_models())
    assert all(importlib.util.find_spec(name) for name in hub.dependencies)


def test_pretrained_by_name(clean_modules):
    model = torch.hub.load(str(REPOSITORY), "gcn", source="local", weights="citations-rp-comhe")
    ours = create_model("gcn", weights="citations-rp-comhe").state_dict()
    assert all(value.equal(ours[key]) for key, value in model.state_dict().items())

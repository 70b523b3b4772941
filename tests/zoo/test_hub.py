"""What ``torch.hub`` finds in the repository."""

import sys
from pathlib import Path

import pytest
import torch

from comhe.zoo import list_models

REPOSITORY = str(Path(__file__).parents[2])


@pytest.fixture
def clean_modules():
    """hubconf imports the zoo a second time, by its folder's name."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("zoo", "hubconf"):
            del sys.modules[name]


def test_every_model_is_an_entry_point(clean_modules):
    for name in list_models("gcn*") + list_models("cnn6") + list_models("pointnet"):
        options = {"in_channels": 3} if name.startswith("gcn") else {}
        model = torch.hub.load(REPOSITORY, name, source="local", num_classes=2, **options)
        assert type(model).__name__ in ("GCN", "GCN2", "CNN", "PointNet")
    names = set(vars(sys.modules["hubconf"])) if "hubconf" in sys.modules else None
    assert names is None or set(list_models()) <= names

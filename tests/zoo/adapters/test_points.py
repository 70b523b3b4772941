"""The names of public implementations; test_external.py compares the outputs."""

import pytest
import torch

from comhe.errors import WeightsError
from comhe.zoo import create_model
from comhe.zoo.adapters.points import LAYOUTS, adapt_points


def test_other_state_dicts_are_returned_as_they_are():
    state = create_model("pointnet", num_classes=3).state_dict()
    assert adapt_points(state) is state


@pytest.mark.parametrize("mark", LAYOUTS)
def test_what_is_missing_is_named(mark):
    with pytest.raises(WeightsError, match=r"^the state dict lacks '.*', which its layout has$"):
        adapt_points({mark: torch.zeros(3, 3, 1)})


def test_another_shape_is_an_error():
    with pytest.raises(WeightsError, match="has another shape than its layout's"):
        adapt_points({"conv5.0.weight": torch.tensor(1.0), "conv1.0.weight": torch.tensor(1.0)})

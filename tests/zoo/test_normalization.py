"""A layer in the weights of others that normalizes images."""

import pytest
import torch

from comhe.zoo import create_model, load_weights
from comhe.zoo.normalization import stated_normalization

MEAN, STD = (0.49, 0.48, 0.44), (0.2, 0.25, 0.5)


@pytest.mark.parametrize("scale", [1, 255])
@pytest.mark.parametrize("shape", [(3,), (1, 3, 1, 1), (3, 1, 1)])
@pytest.mark.parametrize(
    ("mean", "std", "network"),
    [
        ("mu", "sigma", ""),
        ("0.mean", "0.std", "1."),
        ("normalize.mean", "normalize.std", "model."),
        ("mean", "std", ""),
    ],
)
def test_it_is_told_and_is_not_of_the_network(mean, std, network, shape, scale):
    model = create_model("resnet8", num_classes=10)
    state = {network + name: tensor for name, tensor in model.state_dict().items()}
    layer = {name: torch.tensor(v).view(shape) * scale for name, v in ((mean, MEAN), (std, STD))}
    loaded = load_weights(create_model("resnet8", num_classes=10), layer | state)
    assert loaded.normalization == (MEAN, STD)
    assert "0.49,0.48,0.44/0.2,0.25,0.5" in str(loaded)
    assert len(loaded.loaded) == len(state)
    assert load_weights(model, state).normalization is None


def test_of_two_that_differ_and_of_other_tensors_none_is_taken():
    expected = {"conv.weight": torch.zeros(8, 3, 3, 3)}
    two = {
        f"{name}.{part}": torch.full((3,), value)
        for name, value in (("a", 0.5), ("b", 0.4))
        for part in ("mean", "std")
    }
    for state in (two, {"mean": torch.zeros(64), "std": torch.ones(64)}, {"mean": torch.zeros(3)},
                  {"mean": torch.zeros(3), "std": torch.zeros(3)}):  # fmt: skip
        tensors, stated = stated_normalization(expected | state, expected)
        assert stated is None
        assert tensors.keys() == {*expected, *state}
    same = {f"{name}.{part}": torch.full((), 0.5) for name in "ab" for part in ("mean", "std")}
    assert stated_normalization(expected | same, expected)[1] == ((0.5,) * 3, (0.5,) * 3)

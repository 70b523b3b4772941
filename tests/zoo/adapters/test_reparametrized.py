"""Weights in parts are what their layers use."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from comhe.errors import WeightsError
from comhe.zoo import create_model, load_weights
from comhe.zoo.adapters.reparametrized import is_reparametrized, plain_weights

HOW = {
    "weight norm": weight_norm,
    "weight norm of columns": lambda m: weight_norm(m, dim=1),
    "weight norm of all": lambda m: weight_norm(m, dim=None),
    "weight norm, new": parametrizations.weight_norm,
    "spectral norm": spectral_norm,
    "spectral norm, new": parametrizations.spectral_norm,
    "pruning": lambda m: prune.random_unstructured(m, "weight", 0.5),
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("prefix", ["", "module.backbone."])
def test_a_network_in_parts_gives_the_same_logits(how, prefix):
    torch.manual_seed(0)
    theirs = create_model("resnet8", shortcut="pad", num_classes=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in list(theirs.modules()):
            if isinstance(module, nn.Conv2d | nn.Linear):
                HOW[how](module)
        x = torch.randn(4, 3, 8, 8)
        theirs(x)
        expected = theirs.eval()(x)
    ours = create_model("resnet8", shortcut="pad", num_classes=5).eval()
    weights = [name for name in ours.state_dict() if ours.state_dict()[name].dim() > 1]
    assert [name for name in plain_weights(theirs.state_dict())[0] if name in weights] == weights  # in their order
    state = {prefix + name: tensor for name, tensor in theirs.state_dict().items()}
    done = load_weights(ours, state)
    torch.testing.assert_close(ours(x), expected)
    assert done.notes == (f"{how.partition(',')[0].partition(' of')[0]} of 8 tensors computed",)
    assert load_weights(theirs, theirs.state_dict()).notes == ()  # it has the parts itself, and gets them as they are


def test_transposed_convolutions_have_their_rows_second():
    for how in (spectral_norm, parametrizations.spectral_norm):
        layer = how(nn.ConvTranspose2d(3, 4, 2))
        layer(torch.zeros(1, 3, 2, 2))
        layer.eval()(torch.zeros(1, 3, 2, 2))
        torch.testing.assert_close(plain_weights(layer.state_dict())[0]["weight"], layer.weight)


def test_other_tensors_stay_and_unknown_parts_are_refused():
    odd = {
        "a_g": torch.ones(3),
        "a_v": torch.ones(2),
        "b_orig": torch.ones(2),
        "c_mask": torch.ones(2),
        "d_g": torch.ones(1),
    }
    assert plain_weights(odd) == (odd, [])
    assert not is_reparametrized({"weight": torch.ones(1)})
    orthogonal = parametrizations.orthogonal(nn.Linear(3, 3))
    with pytest.raises(WeightsError, match=r"weight is parametrized in a way .*remove_parametrizations"):
        load_weights(nn.Linear(3, 3), orthogonal.state_dict())
    parts = {"parametrizations.weight.original0": torch.ones(3), "parametrizations.weight.original1": torch.ones(2, 2)}
    with pytest.raises(WeightsError, match="do not fit together"):
        plain_weights(parts)

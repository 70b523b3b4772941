"""The output layer as it is asked for, where a layer has no view, and of the zoo's networks."""

import pytest
import torch
from torch import nn

from comhe.errors import UsageError
from comhe.regularizers import register_neurons
from comhe.regularizers.selection import select
from comhe.zoo import create_model, list_models

from .networks import mlp, outputs, with_attributes


class Prototypes(nn.Module):
    def __init__(self, features=6, classes=10):
        super().__init__()
        self.W = nn.Parameter(torch.randn(features, classes))


def test_a_classifier_without_a_view_is_not_replaced():
    for model in (nn.Sequential(mlp(3, 8, 6), Prototypes()), with_attributes(body=mlp(3, 6), head=Prototypes())):
        with pytest.warns(UserWarning, match="which is skipped .*: give it a view with register_neurons"):
            layers, skipped = select(model)
        assert {layer.role for layer in layers} == {"hidden"}
        assert "Prototypes.W [6, 10]" in skipped[0].reason

    class Known(Prototypes):
        pass

    register_neurons(Known)(lambda module: module.W.mT)
    assert outputs(nn.Sequential(mlp(3, 8, 6), Known())) == ["1"]
    assert outputs(with_attributes(body=mlp(3, 6), margin=Known(), norm=nn.LayerNorm(6))) == ["margin"]


def test_a_lazy_layer_is_the_output_after_one_call():
    model = nn.Sequential(nn.Linear(4, 6), nn.LazyLinear(3))
    with pytest.warns(UserWarning, match=r"seems to be 1, which is skipped .*: it is lazy, so call the model once"):
        assert outputs(model) == []
    with pytest.raises(UsageError, match=r"output='1' names 1, which is skipped: it is lazy, so call the model once"):
        outputs(model, output="1")
    model(torch.ones(2, 4))
    assert outputs(model) == ["1"]


def test_globs():
    model = mlp(8, 16, 12, 4)
    assert outputs(model, output=["0", "2"]) == ["0", "2"]
    assert outputs(model, output=("[12]",)) == ["1", "2"]
    assert outputs(model, output=None) == outputs(model, output=()) == []
    with pytest.raises(ValueError, match="output='top' names no layer; the model has 0, 1, 2"):
        select(model, output=["2", "top"])
    attention = nn.ModuleDict({"attn": nn.MultiheadAttention(8, 2, kdim=4), "fc": nn.Linear(8, 3)})
    assert outputs(attention, output="attn.[qk]*") == ["attn.q_proj_weight", "attn.k_proj_weight"]


ZOO = [name for name in list_models() if name not in ("resnet110", "resnet164", "resnet1001")]  # deep, otherwise alike


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize("name", ZOO)
def test_the_zoo(name):
    sizes = {"in_channels": 12} if name in list_models(domain="graphs") else {}
    with torch.device("meta"):
        model = create_model(name, num_classes=13, **sizes)
    layers = [layer for layer in select(model).layers if layer.role == "output"]
    assert {layer.shape[-2] for layer in layers} == {13}
    assert len({layer.name.rpartition(".")[0] for layer in layers}) == 1

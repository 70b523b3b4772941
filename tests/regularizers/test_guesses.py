"""The output layer of models that no library has made, by names and shapes."""

import warnings

import pytest
import torch
from torch import nn

from comhe.regularizers import create_regularizer
from comhe.regularizers.selection import select

from .networks import mlp, outputs, with_attributes


def found(model):
    return {layer.name: layer.found for layer in select(model).layers if layer.role == "output"}


CNN = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3), nn.Flatten(), nn.Linear(16 * 4, 10))
MODEL = with_attributes(fc=nn.Linear(8, 10), body=mlp(3, 8))
MODELS = {
    "last": (mlp(8, 16, 12, 4), ["2"]),
    "flattened": (CNN, ["3"]),
    "equal widths": (mlp(4, 4, 4), ["1"]),
    "registered first, named": (with_attributes(classifier=nn.Linear(16, 10), body=mlp(3, 8, 16)), ["classifier"]),
    "registered first, unnamed": (with_attributes(top=nn.Linear(16, 10), body=mlp(3, 8, 16)), ["top"]),
    "convolutions last": (with_attributes(top=nn.Linear(16, 10), body=nn.Conv2d(3, 16, 3)), ["top"]),
    "an auxiliary head after it": (
        with_attributes(body=mlp(3, 8), fc=nn.Linear(8, 10), aux_fc=nn.Linear(8, 10)),
        ["fc"],
    ),
    "only auxiliary is named": (
        with_attributes(body=mlp(3, 8), top=nn.Linear(8, 10), auxiliary_classifier=nn.Linear(8, 10)),
        ["top"],
    ),
    "a head of several layers": (with_attributes(body=mlp(3, 8), head=mlp(8, 6, 10)), ["head.1"]),
    "classes and boxes": (
        with_attributes(body=mlp(3, 8), head=with_attributes(cls_preds=nn.Linear(8, 10), reg_preds=nn.Linear(8, 4))),
        ["head.cls_preds"],
    ),
    "boxes last": (with_attributes(body=mlp(3, 8), top=nn.Linear(8, 10), bbox_pred=nn.Linear(8, 4)), ["top"]),
    "sizes last": (with_attributes(body=mlp(3, 8), top=nn.Linear(8, 10), wh=nn.Linear(8, 2)), ["top"]),
    "offsets last": (with_attributes(body=mlp(3, 8), conf=nn.Linear(8, 10), loc=nn.Linear(8, 4)), ["conf"]),
    "a gate that is the head": (with_attributes(body=mlp(3, 8), gate_classifier=nn.Linear(8, 2)), ["gate_classifier"]),
    "classes of places": (with_attributes(body=mlp(3, 8), top=mlp(8, 9), loc_cls=nn.Linear(9, 10)), ["loc_cls"]),
    "wrapped": (with_attributes(model=MODEL, loss=nn.ReLU()), ["model.fc"]),
    "wrapped twice": (nn.DataParallel(with_attributes(net=MODEL)), ["module.net.fc"]),
    "attention last": (with_attributes(top=nn.Linear(8, 10), body=nn.MultiheadAttention(8, 2)), ["top"]),
    "an embedding last": (with_attributes(top=nn.Linear(8, 10), words=nn.Embedding(12, 8)), ["top"]),
    "one layer": (nn.Linear(4, 3), [""]),
    "recurrent": (with_attributes(memory=nn.LSTM(4, 6, bidirectional=True), top=nn.Linear(12, 3)), ["top"]),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["fc_aux", "out_aux2", "cls_aux_1", "fcAux"])
def test_an_auxiliary_head_by_any_part_of_its_name(name):
    for main in ("fc", "top"):
        assert outputs(with_attributes(body=mlp(3, 8), **{main: nn.Linear(8, 10), name: nn.Linear(8, 10)})) == [main]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["aux", "gates", "router", "film", "modulation"])
def test_a_last_module_is_the_head_whatever_its_name_is_if_nothing_else_ends(name):
    assert outputs(with_attributes(body=mlp(9, 16, 8), **{name: mlp(8, 6, 5)})) == [f"{name}.1"]
    block = with_attributes(experts=mlp(8, 16, 8), **{name: nn.Linear(8, 4)})
    assert outputs(with_attributes(body=mlp(9, 8), blocks=nn.Sequential(block))) == ["blocks.0.experts.1"]
    assert outputs(with_attributes(**{f"{name}_model": MODEL})) == [f"{name}_model.fc"]


def test_heads_for_maps_and_for_images_are_told():
    body, head = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 16, 3)), nn.Conv2d(16, 4, 3)
    with pytest.warns(UserWarning, match="any of segmentation_head, classification_head"):
        outputs(with_attributes(body=body, segmentation_head=head, classification_head=nn.Linear(64, 5)))


@pytest.mark.parametrize("name", MODELS)
def test_auto(name):
    model, expected = MODELS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert outputs(model) == expected


def test_the_report_says_how_it_was_found():
    assert found(MODELS["last"][0]) == {"2": "the last weight matrix"}
    assert found(MODELS["registered first, named"][0]) == {"classifier": "by its name"}
    assert found(MODELS["registered first, unnamed"][0]) == {"top": "by its shape: no other layer takes its outputs"}
    text = str(create_regularizer("mhe", MODELS["registered first, named"][0]).report())
    assert [line.endswith("by its name") for line in text.splitlines()[2:]] == [True, False, False]


@pytest.mark.parametrize(
    ("model", "candidates", "taken"),
    [
        (with_attributes(body=mlp(3, 8), left=nn.Linear(8, 10), right=nn.Linear(8, 5)), "left, right", ["right"]),
        (with_attributes(head=nn.Linear(8, 10), body=mlp(3, 8), score=nn.Linear(8, 5)), "head, score", ["score"]),
    ],
)
def test_ambiguity_is_told(model, candidates, taken):
    with pytest.warns(UserWarning, match=rf"may be any of {candidates}; {taken[0]} is taken. Name it with output="):
        assert outputs(model) == taken
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(outputs(model, output=candidates.split(", "))) == 2


class Centers(nn.Module):
    """A network with a parameter of its own."""

    def __init__(self, shape, name="centers", **modules):
        super().__init__()
        self.register_parameter(name, nn.Parameter(torch.randn(shape)))
        for key, module in modules.items():
            self.add_module(key, module)


@pytest.mark.parametrize("name", ["centers", "proxies", "W", "weight", "prototypes", "class_weight", "kernel"])
@pytest.mark.parametrize("sizes", [(3, 8, 6), (3, 6, 6), (6, 6, 6)])
@pytest.mark.parametrize("shape", [(10, 6), (6, 10)])
def test_centers_of_classes_come_after_the_layers_of_their_module(name, sizes, shape):
    for model in (
        Centers(shape, name, net=mlp(*sizes)),
        Centers(shape, name, body=mlp(*sizes[:2]), fc=mlp(*sizes[1:])),
    ):
        with pytest.warns(UserWarning, match="seems to be the model itself, which is skipped"):
            assert outputs(model) == []


def test_parameters_that_may_be_the_classifier_are_told_once():
    model = Centers((10, 6), "table", net=mlp(3, 6, 6))
    model.other_table = nn.Parameter(torch.randn(10, 6))
    with pytest.warns(UserWarning, match="may be any of the model itself, net.1; net.1 is taken"):
        assert outputs(model) == ["net.1"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert outputs(Centers((16, 6), "latents", net=mlp(3, 6, 6), fc=nn.Linear(6, 4))) == ["fc"]


@pytest.mark.parametrize("classes", [6, 7])
def test_as_many_classes_as_dimensions_are_no_table(classes):
    with pytest.warns(UserWarning, match="seems to be 1, which is skipped"):
        assert outputs(nn.Sequential(mlp(3, 6), Centers((classes, 6), "prototypes"))) == []


@pytest.mark.parametrize("name", ["hidden2tag", "fc"])
def test_transitions_of_a_conditional_random_field_are_no_classifier(name):
    crf = Centers((5, 5), "table")
    crf.start = nn.Parameter(torch.randn(5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = with_attributes(lstm=nn.LSTM(6, 8, bidirectional=True), **{name: nn.Linear(16, 5)}, crf=crf)
        assert outputs(model) == [name]


def test_a_matrix_that_no_layer_feeds_is_no_classifier():
    class Memory(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.randn(128, 20))

    assert outputs(nn.Sequential(mlp(3, 8, 6), Memory())) == ["0.1"]


def diffusion_network(width=32):
    """A convolution of a few maps after attention: every width is a multiple of its outputs, but it comes last."""
    block = nn.ModuleDict({"gated": nn.Linear(width, 8 * width), "back": nn.Linear(4 * width, width)})
    return nn.ModuleDict(
        {
            "conv_in": nn.Conv2d(4, width, 3),
            "time": nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width)),
            "block": nn.ModuleDict({"norm1": nn.ModuleDict({"linear": nn.Linear(width, 6 * width)}), "ff": block}),
            "conv_out": nn.Conv2d(width, 4, 3),
        }
    )


def test_few_maps_at_the_end_are_the_output():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert outputs(diffusion_network()) == ["conv_out"]


def test_a_dense_decoder_after_an_encoder_with_a_head_is_told():
    model = diffusion_network()
    model["block"]["encoder_classifier"] = nn.Linear(32, 1000)
    with pytest.warns(UserWarning, match="may be any of block.encoder_classifier, conv_out; conv_out is taken"):
        assert outputs(model) == ["conv_out"]


def test_where_all_ends_are_features_no_layer_is_called_the_output():
    blocks = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
    model = Centers((8, 4), "projection", visual=nn.Conv2d(3, 8, 4), transformer=blocks, norm=nn.LayerNorm(8))
    with pytest.warns(UserWarning, match="may be any of the model itself, transformer.2; none of them is taken"):
        assert outputs(model) == []

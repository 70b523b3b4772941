"""The names of public implementations; test_external.py compares the outputs."""

import re

import pytest
import torch
from safetensors.torch import save_model

from comhe.errors import WeightsError
from comhe.zoo import create_model, list_models, load_weights
from comhe.zoo.adapters.points import LAYOUTS, adapt_points, options_of
from comhe.zoo.points import model_from_state

from ..conftest import same
from ..points.test_external import CLASSES, IMPLEMENTATIONS


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


FILES = {
    "yanx27 PointNet": "pointnet_cls",
    "yanx27 PointNet with normals": "pointnet_cls",
    "yanx27 SSG with normals": "pointnet2_ssg",
    "yanx27 MSG with normals": "pointnet2_msg",
    "WangYueFt DGCNN": "dgcnn",
}


@pytest.mark.parametrize("file", FILES)
def test_files_for_other_inputs_and_classes_and_trunks_of_them(file):
    build, _, channels = IMPLEMENTATIONS[file]
    state, name = build().state_dict(), FILES[file]
    other = create_model(name, num_classes=CLASSES, in_channels=9 - channels)
    with pytest.raises(
        WeightsError, match=rf"; build the model with in_channels={channels}(, or pass adapt_input=True)?$"
    ):
        load_weights(other, state)
    with pytest.raises(WeightsError, match=f"they are weights of {name}"):
        load_weights(create_model("pointnet", num_classes=CLASSES, in_channels=channels), state)
    ours = create_model(name, num_classes=3, in_channels=channels)
    with pytest.raises(WeightsError, match=f"for {CLASSES} classes, this .* has 3"):
        load_weights(ours, state)
    trunk = {key: t for key, t in state.items() if not key.startswith(("fc3", "linear3"))}
    with pytest.raises(WeightsError, match=r"no head .*swap_head=True"):
        load_weights(ours, trunk)
    for theirs in (state, {"model_state_dict": {f"module.{key}": t for key, t in trunk.items()}}):
        done = load_weights(ours, theirs, swap_head=True)
        assert done.initialized == ("head.output.weight", "head.output.bias")
        assert len(done.loaded) == len(ours.state_dict()) - 2
    with pytest.raises(WeightsError, match="lacks its last layer"):
        model_from_state(trunk)
    without = {key: t for key, t in state.items() if key not in ("fc1.weight", "linear1.weight")}
    with pytest.raises(WeightsError, match="which its layout has"):  # and not: nothing is loaded, without a word
        load_weights(ours, without, swap_head=True)


def test_a_network_without_its_feature_transform_is_asked_for():
    state = IMPLEMENTATIONS["fxia22 without feature transform"][0]().state_dict()
    with pytest.raises(WeightsError, match="build the model with feature_transform=False"):
        load_weights(create_model("pointnet_cls", num_classes=CLASSES), state)


@pytest.mark.parametrize("name", list_models("*", domain="points"))
def test_the_options_of_our_own_networks(name):
    for channels in (3, 6):
        found = options_of(create_model(name, num_classes=3, in_channels=channels).state_dict())
        assert (found["model"], found["in_channels"]) == (name, channels)


def test_a_norm_of_two_names_is_read_by_either(tmp_path):
    theirs = IMPLEMENTATIONS["WangYueFt DGCNN"][0]()
    expected = create_model("dgcnn", num_classes=CLASSES)
    load_weights(expected, theirs.state_dict())
    save_model(theirs, str(tmp_path / "one.safetensors"))
    second = {name: t for name, t in theirs.state_dict().items() if not re.match(r"bn[1-5]\.", name)}
    for weights in (tmp_path / "one.safetensors", second):
        model = create_model("dgcnn", num_classes=CLASSES)
        notes = load_weights(model, weights).notes
        assert notes == ("read with k=20 neighbors, which tensors do not tell",)
        assert same(model, expected.state_dict())
    without = {name: t for name, t in theirs.state_dict().items() if not name.endswith(("bn1.bias", "conv1.1.bias"))}
    with pytest.raises(WeightsError, match=r"lacks 'conv1\.1\.bias'"):
        load_weights(model, without)

"""Folders with one model: what is written, and that every network of the zoo comes back from one."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from comhe.errors import UsageError, WeightsError
from comhe.zoo import (
    create_model,
    get_weights,
    list_weights,
    load_weights,
    model_domain,
    register_model,
    save_pretrained,
)
from comhe.zoo.preprocessing import GraphTransform, ImageTransform, PointTransform

from .conftest import message_of, networks, same

SMALL = {
    "images": {"num_classes": 3},
    "points": {"num_classes": 3},
    "graphs": {"in_channels": 5, "num_classes": 3, "hidden_channels": 4},
}
TRANSFORMS = {
    "images": ImageTransform(mean=(0.5,) * 3, std=(0.25,) * 3, size=(32, 32)),
    "points": PointTransform(points=64, channels=3),
    "graphs": GraphTransform(features=5),
}
DEEP = {"resnet110", "resnet164", "resnet1001", "wrn_28_10", "resnet32_wide", "vgg16_bn", "resnet34", "resnet50"}
DEEP |= {f"{name}_cifar" for name in ("resnet18", "resnet34", "resnet50")}


def fields(domain, **changes):
    """What the card of a model says that somebody trained in a loop of their own."""
    data = {"name": "mine", "class names": ["a", "b", "c"], "license": "MIT"}
    return {"data": data, "preprocessing": TRANSFORMS[domain], "metrics": {"test": {"accuracy": 0.5}}} | changes


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize("name", networks(DEEP))
def test_every_network_comes_back_as_it_was_saved(name, tmp_path):
    """The network in evaluation has the same tensors, so it computes the same; what it is trained further from, too."""
    domain = model_domain(name)
    model = create_model(name, **SMALL[domain])
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(torch.full_like(tensor, 0.5) if tensor.is_floating_point() else tensor + 3)
    weights = save_pretrained(model, tmp_path / "m", **fields(domain))
    found = create_model(f"local-dir:{tmp_path / 'm'}")
    assert type(found) is type(model)
    assert same(found, model.state_dict())
    assert weights.name == f"{name}.mine-none"
    assert weights.options == SMALL[domain]
    assert weights.transforms() == TRANSFORMS[domain]
    assert weights.classes == ("a", "b", "c")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert (config["architecture"], config["num_classes"], config["model_args"]) == (name, 3, SMALL[domain])


@pytest.mark.parametrize("name", [name for name in list_weights() if name.endswith("none")][::4])
def test_pretrained_weights_keep_their_bytes_and_their_card(name, tmp_path):
    original = get_weights(name)
    saved = save_pretrained(name, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == original.read()
    changed = {"file"}
    assert {k: v for k, v in saved.card.items() if k not in changed} == {
        k: v for k, v in original.card.items() if k not in changed
    }
    assert saved.transforms() == original.transforms()
    again = get_weights(f"local-dir:{tmp_path}")
    assert again.card == saved.card
    assert same(again.state_dict(), original.state_dict())
    page = (tmp_path / "README.md").read_text()
    assert f"# {name}" in page
    assert original.card["data"]["license"] in page
    assert f"{original.card['metrics']['test']['accuracy']:.4g}" in page
    assert f"over {original.card['seeds']['n']} seeds" in page or original.card["seeds"]["n"] == 1


def test_predictions_are_the_same(tmp_path):
    save_pretrained("resnet8.glyphs-none", tmp_path)
    x = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = get_weights(f"local-dir:{tmp_path}").predict(x)
    torch.testing.assert_close(found, get_weights("resnet8.glyphs-none").predict(x), rtol=0, atol=0)
    config = json.loads((tmp_path / "config.json").read_text())
    card = get_weights("resnet8.glyphs-none").card["preprocessing"]
    assert config["pretrained_cfg"]["input_size"] == [3, 32, 32]
    assert [config["pretrained_cfg"][key] for key in ("mean", "std")] == [card["mean"], card["std"]]


def test_all_functions_take_the_name_and_a_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    model = create_model("gcn", **SMALL["graphs"])
    save_pretrained(model, "~/mine", **fields("graphs"))
    expected = load_file(tmp_path / "mine" / "model.safetensors")
    assert same(create_model("gcn", weights="local-dir:~/mine"), expected)
    assert same(create_model("local-dir:~/mine", num_classes=2, swap_head=True).convs[0], _below(expected, "convs.0."))
    other = create_model("gcn", **SMALL["graphs"])
    load_weights(other, "local-dir:~/mine")
    assert same(other, expected)
    assert same(get_weights(tmp_path / "mine" / "model.safetensors").state_dict(), expected)


def _below(state, prefix):
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def test_without_a_card_or_with_other_bytes_nothing_is_loaded(tmp_path):
    model = create_model("gcn", **SMALL["graphs"])
    save_pretrained(model, tmp_path, **fields("graphs"))
    path = tmp_path / "model.safetensors"
    data = path.read_bytes()
    for damaged in (data[:-1], data[:-1] + b"\0", b""):
        path.write_bytes(damaged)
        assert "truncated or altered" in message_of(create_model, f"local-dir:{tmp_path}")
    path.unlink()
    assert "no such file" in message_of(create_model, f"local-dir:{tmp_path}")
    path.write_bytes(data)
    (tmp_path / "model.json").unlink()
    with pytest.raises(WeightsError, match=r"the folder has no model\.json; save_pretrained writes one"):
        create_model(f"local-dir:{tmp_path}")
    with pytest.raises(WeightsError, match="there is no such folder"):
        get_weights("local-dir:no/such/folder")


def test_a_card_that_lacks_something_is_not_written(tmp_path):
    model = create_model("gcn", **SMALL["graphs"])
    with pytest.raises(UsageError, match=r"no data \(dict\), preprocessing \(dict\), metrics \(dict\); give it"):
        save_pretrained(model, tmp_path / "m")
    with pytest.raises(UsageError, match="a card contains names, numbers"):
        save_pretrained(model, tmp_path / "m", **fields("graphs", note=object()))
    with pytest.raises(UsageError, match="a card contains names, numbers"):
        save_pretrained(model, tmp_path / "m", **fields("graphs", metrics={"test": {"accuracy": float("nan")}}))
    with pytest.raises(UsageError, match="this Linear was not built by create_model: give its name and arguments"):
        save_pretrained(nn.Linear(2, 2), tmp_path / "m", **fields("graphs"))
    assert not (tmp_path / "m").exists()


def test_a_model_that_was_changed_since_it_was_built_is_told(tmp_path):
    model = create_model("resnet8", num_classes=10)
    model.fc = nn.Linear(model.fc.in_features, 3)
    with pytest.raises(WeightsError, match=r"create_model\('resnet8', .*10.*\) is not this network: .*; give the arg"):
        save_pretrained(model, tmp_path, **fields("images"))
    assert not list(tmp_path.iterdir())
    save_pretrained(model, tmp_path, **fields("images", options={"num_classes": 3}))
    assert same(create_model(f"local-dir:{tmp_path}"), model.state_dict())


@pytest.mark.usefixtures("clean_registry")
def test_a_model_of_ones_own_is_saved_through_its_wrappers(tmp_path):
    @register_model
    def my_net(width: int = 2) -> nn.Module:
        return nn.Linear(width, 3)

    model = nn.DataParallel(create_model("my_net", width=4))
    given = fields("images", preprocessing={"kind": "own"}, regularizer="hs-mhe")
    assert save_pretrained(model, tmp_path, **given).name == "my_net.mine-hs-mhe"
    assert same(create_model(f"local-dir:{tmp_path}"), model.module.state_dict())
    assert "trained with the regularizer `hs-mhe`" in Path(tmp_path, "README.md").read_text()


def test_a_second_model_replaces_the_first(tmp_path):
    for name in ("gcn.citations-none", "gcn.citations-rp-comhe"):
        save_pretrained(name, tmp_path)
        assert get_weights(f"local-dir:{tmp_path}").name == name
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "config.json", "model.json", "model.safetensors"}

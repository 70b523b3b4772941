"""Pretrained weights by name: what is found, what is checked, and what is said when something is wrong."""

import hashlib
import json
import shutil

import pytest
import torch
from safetensors.torch import save

from comhe.zoo import cards, create_model, get_weights, list_weights, load_weights

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
    return all(value.equal(state[key]) for key, value in model.state_dict().items())


def test_names_in_natural_order_by_whole_name_or_model(folder):
    for name in ("resnet110.cifar100-none", "resnet20.cifar100-none", "gcn2.cora-none", "gcn.cora-none"):
        write(folder, name)
    assert list_weights() == [
        "gcn.cora-none", "gcn2.cora-none", "resnet20.cifar100-none", "resnet110.cifar100-none"
    ]  # fmt: skip
    assert list_weights("gcn") == ["gcn.cora-none"]
    assert list_weights("resnet*") == list_weights("*cifar100*") == list_weights()[2:]
    assert list_weights("nothing") == []


@pytest.mark.parametrize("name", ["cora-mhe", "gcn.cora-mhe", "path"])
def test_a_model_is_built_and_loaded_by_name(folder, state, name):
    name = str(folder / "gcn.cora-mhe.safetensors") if name == "path" else name
    model = create_model("gcn", weights=name)
    assert same(model, state)
    assert (model.num_classes, model.convs[0].out_channels) == (3, 4)
    assert create_model("gcn", weights=name, dropout=0.0).dropout == 0.0
    assert get_weights("gcn.cora-mhe").options == OPTIONS
    assert load_weights(model, "gcn.cora-mhe").loaded == tuple(state)


def test_a_path_without_a_card_is_any_state_dict(folder, state, tmp_path):
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "own.pth")
    assert same(create_model("gcn", weights=tmp_path / "own.pth", **OPTIONS), state)
    shutil.copy(folder / "gcn.cora-mhe.safetensors", tmp_path / "copy.safetensors")
    assert same(create_model("gcn", weights=tmp_path / "copy.safetensors", **OPTIONS), state)
    with pytest.raises(TypeError, match="needs 'in_channels'"):
        create_model("gcn", weights=tmp_path / "own.pth")


def test_another_head_is_asked_for(state):
    with pytest.raises(ValueError, match=r"for 3 classes, this GCN has 9.*swap_head=True"):
        create_model("gcn", weights="cora-mhe", num_classes=9)
    model = create_model("gcn", weights="cora-mhe", num_classes=9, swap_head=True)
    assert model.convs[0].lin.weight.equal(state["convs.0.lin.weight"])
    assert model.convs[1].lin.weight.shape == (9, 4)
    with pytest.raises(TypeError, match="without any"):
        create_model("gcn", **OPTIONS, swap_head=True)


def _message(call, *arguments, **options):
    with pytest.raises(ValueError) as error:
        call(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_unknown_names_tell_the_nearest(state):
    assert _message(get_weights, "gcn.cora-mh").endswith("did you mean gcn.cora-mhe?")
    assert _message(create_model, "gcn", weights="cora-mme").endswith("of gcn; did you mean gcn.cora-mhe?")
    assert _message(get_weights, "####").endswith("there are gcn.cora-mhe")
    assert "of gcn, not of gat" in _message(create_model, "gat", weights="gcn.cora-mhe")
    assert "no such file" in _message(create_model, "gcn", weights="no/such.pt", **OPTIONS)


def test_altered_and_truncated_files_are_refused(folder, state):
    path = folder / "gcn.cora-mhe.safetensors"
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        path.write_bytes(damaged)
        for call in (lambda: create_model("gcn", weights="cora-mhe"), lambda: create_model("gcn", weights=path)):
            assert "truncated or altered" in _message(call)


def test_predictions_from_raw_inputs(folder, state):
    weights = get_weights("gcn.cora-mhe")
    counts, edges = torch.randint(3, (6, 5)), torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]])
    probabilities = weights.predict(counts, edges)
    with torch.inference_mode():
        logits = create_model("gcn", weights="cora-mhe").eval()(weights.transforms()(counts), edges)
    assert probabilities.equal(logits.softmax(-1))
    assert weights.classes == ("0", "1", "2")
    with pytest.raises(ValueError, match="features must be"):
        weights.predict(counts.t(), edges)
    write(folder, "gcn.cora-named", data={"class names": ["a", "b", "c"]})
    assert get_weights("gcn.cora-named").classes == ("a", "b", "c")


def test_cards_without_files_and_files_without_cards(folder, state):
    write(folder, "gcn.lost-none")
    (folder / "gcn.lost-none.safetensors").unlink()
    assert "no url" in _message(create_model, "gcn", weights="lost-none")
    (folder / "gcn.cora-mhe.json").unlink()
    assert "unknown weights" in _message(create_model, "gcn", weights="cora-mhe")
    assert "no card gcn.cora-mhe.json" in _message(get_weights, folder / "gcn.cora-mhe.safetensors")
    (folder / "gcn.cora-mhe.json").write_text('{"name": 1')
    assert "not a card" in _message(get_weights, "gcn.cora-mhe")
    (folder / "gcn.cora-mhe.json").write_text("{}")
    assert "it has no name, model" in _message(get_weights, "gcn.cora-mhe")


def test_a_card_with_a_url_is_fetched_once_and_checked(folder, state, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    there = tmp_path / "there.safetensors"
    (folder / "gcn.cora-mhe.safetensors").rename(there)
    card = json.loads((folder / "gcn.cora-mhe.json").read_text())
    (folder / "gcn.cora-mhe.json").write_text(json.dumps(card | {"url": there.as_uri()}))
    whole = there.read_bytes()
    there.write_bytes(whole[:-1])
    assert "could not be downloaded" in _message(create_model, "gcn", weights="cora-mhe")
    assert not any(path.is_file() for path in (tmp_path / "home").rglob("*"))  # nothing half is left
    there.write_bytes(whole)
    assert same(create_model("gcn", weights="cora-mhe"), state)
    there.unlink()
    assert same(create_model("gcn", weights="cora-mhe"), state)


def test_what_the_package_brings_is_whole():
    """Every card of the package has its file, and a model is built of it."""
    for name in list_weights():
        weights = get_weights(name)
        assert weights.name == name
        assert {"seed", "regularizer", "energy", "commit", "trained", "published", "bytes"} <= weights.card.keys()
        assert weights.card["data"]["licence"]
        recipe = weights.card["recipe"]
        assert name.startswith(f"{recipe['model']}.{recipe['data']}-{recipe['regularizer']}")
        create_model(weights.model, weights=name)
        weights.transforms()
        assert len(weights.classes) == weights.options["num_classes"]

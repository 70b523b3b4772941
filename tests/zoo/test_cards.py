"""Pretrained weights by name: what is found, what is checked, and what is said when something is wrong."""

import hashlib
import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save
from torch import nn
from torch_geometric.nn import GCNConv

from comhe.errors import UnknownOptionError, UsageError, WeightsError
from comhe.zoo import cards, create_model, get_weights, list_weights, register_model

from .conftest import OPTIONS, message_of, same, write


def test_names_in_natural_order_by_full_name_or_model(folder):
    for name in ("resnet110.cifar100-none", "resnet20.cifar100-none", "gcn2.cora-none", "gcn.cora-none"):
        write(folder, name)
    assert list_weights() == [
        "gcn.cora-none", "gcn2.cora-none", "resnet20.cifar100-none", "resnet110.cifar100-none"
    ]  # fmt: skip
    assert list_weights("gcn") == ["gcn.cora-none"]
    assert list_weights("resnet*") == list_weights("*cifar100*") == list_weights()[2:]
    assert list_weights("nothing") == []


def test_altered_and_truncated_files_are_refused(folder, state):
    path = folder / "gcn.cora-mhe.safetensors"
    content = path.read_bytes()
    for damaged in (content[:-1], content[:-1] + bytes([content[-1] ^ 1]), b""):
        path.write_bytes(damaged)
        for call in (lambda: create_model("gcn", weights="cora-mhe"), lambda: create_model("gcn", weights=path)):
            assert "truncated or altered" in message_of(call)


def test_predictions_from_raw_inputs(folder, state):
    weights = get_weights("gcn.cora-mhe")
    counts, edges = torch.randint(3, (6, 5)), torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]])
    probabilities = weights.predict(counts, edges)
    with torch.inference_mode():
        logits = create_model("gcn", weights="cora-mhe").eval()(weights.transforms()(counts), edges)
    assert probabilities.equal(logits.softmax(-1))
    assert weights.classes == ("0", "1", "2")
    with pytest.raises(ValueError, match="the network reads features"):
        weights.predict(counts.t(), edges)
    write(folder, "gcn.cora-named", data={"class names": ["a", "b", "c"]})
    assert get_weights("gcn.cora-named").classes == ("a", "b", "c")


def test_cards_without_files_and_files_without_cards(folder, state):
    write(folder, "gcn.lost-none")
    (folder / "gcn.lost-none.safetensors").unlink()
    assert "no url" in message_of(create_model, "gcn", weights="lost-none")
    (folder / "gcn.cora-mhe.json").unlink()
    assert "unknown weights" in message_of(create_model, "gcn", weights="cora-mhe")
    assert "no card gcn.cora-mhe.json next to it" in message_of(get_weights, folder / "gcn.cora-mhe.safetensors")
    for path in (folder / "nope/seed0", folder / "nope/gcn.safetensors", folder / "gcn.mistyped.json"):
        assert message_of(get_weights, path) == f"{path}: no such file or folder"
    (folder / "gcn.cora-mhe.json").write_text('{"name": 1')
    assert "not a card" in message_of(get_weights, "gcn.cora-mhe")
    (folder / "gcn.cora-mhe.json").write_text("{}")
    assert "it lacks name, model" in message_of(get_weights, "gcn.cora-mhe")


def test_a_card_with_a_url_is_fetched_once_and_checked(folder, state, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    there = tmp_path / "there.safetensors"
    (folder / "gcn.cora-mhe.safetensors").rename(there)
    card = json.loads((folder / "gcn.cora-mhe.json").read_text())
    (folder / "gcn.cora-mhe.json").write_text(json.dumps(card | {"url": there.as_uri()}))
    content = there.read_bytes()
    there.write_bytes(content[:-1])
    assert "could not be downloaded" in message_of(create_model, "gcn", weights="cora-mhe")
    assert not any(path.is_file() for path in (tmp_path / "home").rglob("*"))  # nothing half is left
    there.write_bytes(content)
    assert same(create_model("gcn", weights="cora-mhe"), state)
    there.unlink()
    assert same(create_model("gcn", weights="cora-mhe"), state)


def test_every_card_of_the_package_builds_its_model():
    """Every card of the package has its file, and a model is built of it."""
    for name in list_weights():
        weights = get_weights(name)
        assert weights.name == name
        assert {"seed", "regularizer", "energy", "commit", "trained", "published", "bytes"} <= weights.card.keys()
        assert weights.card["data"]["license"]
        recipe = weights.card["recipe"]
        assert name.startswith(f"{recipe['model']}.{recipe['data']}-{recipe['regularizer']}")
        create_model(weights.model, weights=name)
        weights.transforms()
        assert len(weights.classes) == weights.options["num_classes"]


@pytest.mark.parametrize("suffix", ["", ".json", ".safetensors"])
def test_names_with_dots_are_found_with_and_without_a_suffix(folder, tmp_path, suffix):
    expected = write(folder, "gcn.cora-v1.5.mine")
    weights = get_weights(tmp_path / f"gcn.cora-v1.5.mine{suffix}")
    assert weights.name == "gcn.cora-v1.5.mine"
    assert same(weights.build(), expected)
    assert get_weights("gcn.cora-v1.5.mine").path == weights.path


def test_the_mistake_of_a_caller_is_not_blamed_on_the_card(state):
    with pytest.raises(UnknownOptionError, match="takes no 'hidden'"):
        get_weights("gcn.cora-mhe").build(hidden=3)
    with pytest.raises(UsageError, match="dropout must be in"):
        create_model("gcn", weights="cora-mhe", dropout=2.0)


def test_cards_that_say_licence_are_read(folder):
    write(folder, "gcn.cora-old", data={"licence": "MIT"})
    assert get_weights("gcn.cora-old").card["data"] == {"license": "MIT"}


def test_graph_modules_of_other_packages_predict(folder, clean_registry):
    @register_model(domain="graphs", name="pyg_gcn")
    class Net(nn.Module):
        def __init__(self, in_channels: int, num_classes: int, hidden_channels: int, dropout: float) -> None:
            super().__init__()
            self.conv = GCNConv(in_channels, num_classes)

        def forward(self, x, edge_index):
            return self.conv(x, edge_index)

    data = save(create_model("pyg_gcn", **OPTIONS).state_dict())
    write(folder, "gcn.cora-own", model="pyg_gcn", sha256=hashlib.sha256(data).hexdigest())
    (folder / "gcn.cora-own.safetensors").write_bytes(data)
    x, edges = torch.rand(6, 5).to_sparse_csr(), torch.tensor([[0, 1], [1, 0]])
    assert get_weights("gcn.cora-own").predict(x, edges).shape == (6, 3)


def test_edges_are_prepared_for_a_prediction_as_for_training(folder, state):
    counts, edges = torch.randint(3, (6, 5)), torch.tensor([[0, 1, 2, 3, 3], [1, 0, 3, 2, 3]])
    weights = get_weights("gcn.cora-mhe")
    expected = weights.predict(counts, edges)
    for other in (edges[:, :4], edges[:, ::2], edges.flip(0), torch.cat([edges, edges], 1), edges.numpy()):
        torch.testing.assert_close(weights.predict(counts, other), expected)
    graph = SimpleNamespace(x=counts.float(), edge_index=edges)
    assert weights.predict(graph).equal(expected)
    card = {"preprocessing": {"kind": "graphs", "features": 5, "normalize": False, "undirected": False}}
    write(folder, "gcn.mine-none", **card)
    mine = get_weights("gcn.mine-none")
    one_way, model = edges[:, ::2], mine.build().eval()
    with torch.inference_mode():
        assert mine.predict(counts, one_way).equal(model(counts.float(), one_way).softmax(-1))
        weight = torch.tensor([0.5, 2.0, 1.0])
        view = model.prepare(one_way, 6, edge_weight=weight)
        assert mine.predict(counts, one_way, weight).equal(model(counts.float(), view).softmax(-1))
    for arguments, fault in (
        ((counts,), "classifies the nodes of a graph: give predict"),
        ((counts, edges + 3), r"edges must be \[2, E\] numbers of the nodes 0..5"),
        ((counts, edges.T), r"edges must be \[2, E\] numbers"),
        ((counts, edges, weight), r"weights must be \[5\], one for an edge"),
        ((counts, edges, -torch.ones(5)), "the weight -1 of an edge is negative or not finite"),
        ((counts, edges, torch.ones(5) * torch.nan), "the weight nan of an edge is negative or not finite"),
    ):
        with pytest.raises(UsageError, match=fault):
            weights.predict(*arguments)


def test_a_second_image_is_not_passed_over():
    image = torch.zeros(32, 32, 3, dtype=torch.uint8)
    weights = get_weights("resnet8.glyphs-none")
    with pytest.raises(UsageError, match=r"takes no edges; give several images or clouds as one list"):
        weights.predict(image, image)
    assert weights.predict([image, image]).shape == (2, 36)


def test_the_index_of_weights_in_several_files_is_no_card(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"fc.weight": "model-1.safetensors"}}')
    assert not cards.has_card(tmp_path)
    with pytest.raises(WeightsError, match=r"there is no card .* load_weights"):
        get_weights(tmp_path)

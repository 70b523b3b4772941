"""Models with weights: by name, from files, from torchvision, with another head."""

import shutil
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from comhe.errors import UsageError
from comhe.zoo import create_model, get_weights, list_models, load_weights, model_domain, save_pretrained

from ..forks import python
from .conftest import OPTIONS, message_of, same


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
    with pytest.raises(UsageError, match="without any"):
        create_model("gcn", **OPTIONS, swap_head=True)


def test_unknown_names_tell_the_nearest(state):
    assert message_of(get_weights, "gcn.cora-mh").endswith("did you mean gcn.cora-mhe?")
    assert message_of(create_model, "gcn", weights="cora-mme").endswith("of gcn; did you mean gcn.cora-mhe?")
    assert message_of(get_weights, "####").endswith("there are gcn.cora-mhe")
    assert "of gcn, not of gat" in message_of(create_model, "gat", weights="gcn.cora-mhe")
    assert "no such file" in message_of(create_model, "gcn", weights="no/such.pt", **OPTIONS)
    for name in ("cora-mhe.pth", "model_best.pth.tar"):  # no typing errors of a name
        assert "there is no such file either" in message_of(create_model, "gcn", weights=name, **OPTIONS)


def test_a_folder_is_told(state, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    for function in (get_weights, lambda name: create_model("gcn", weights=name, **OPTIONS)):
        assert message_of(function, "checkpoints").endswith("it is a folder; give the file of weights in it")


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_that_save_pretrained_wrote_stands_for_the_weights_in_it(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved = create_model("resnet8")
    (tmp_path / "theirs").mkdir()
    state = {name if name.startswith("fc") else f"resnet.{name}": t for name, t in saved.state_dict().items()}
    save = save_file if file.endswith("safetensors") else torch.save
    save(state, f"theirs/{file}")
    (tmp_path / "theirs" / "config.json").write_text('{"architectures": ["ResNetForImageClassification"]}')
    for name in ("theirs", "./theirs", tmp_path / "theirs"):
        assert same(create_model("resnet8", weights=name), saved.state_dict())
        model = create_model("resnet8")
        load_weights(model, name)
        assert same(model, saved.state_dict())
        assert "there is no card" in message_of(get_weights, name)
    save_pretrained("gcn.citations-none", "ours")
    for name in ("ours", "./ours", tmp_path / "ours"):
        assert get_weights(name).card == get_weights("local-dir:ours").card
        assert create_model("gcn", weights=name).in_channels == 1000


@pytest.mark.parametrize("weights", [3, [1], torch.ones(2), nn.Linear(2, 2)])
def test_what_are_no_weights(weights):
    kind = type(weights).__name__
    with pytest.raises(UsageError, match=f"a path or a name of .*, not {kind}"):
        load_weights(nn.Linear(2, 2), weights)
    with pytest.raises(UsageError, match=f"a name or a path, not {kind}; load_weights takes tensors"):
        create_model("gcn", weights=weights)


@pytest.mark.parametrize("content", ['{"lr": 0.1, "model": "gcn"}', "[1, 2]"])
def test_a_note_of_the_same_name_is_no_card(folder, state, tmp_path, content):
    shutil.copy(folder / "gcn.cora-mhe.safetensors", tmp_path / "best.safetensors")
    (tmp_path / "best.json").write_text(content)
    assert same(create_model("gcn", weights=tmp_path / "best.safetensors", **OPTIONS), state)
    model = create_model("gcn", **OPTIONS)
    load_weights(model, tmp_path / "best.safetensors")
    assert same(model, state)
    (tmp_path / "best.json").write_text('{"sha256": "0"')  # a damaged card is not passed over
    assert "not a card" in message_of(load_weights, model, tmp_path / "best.safetensors")
    (tmp_path / "a.safetensors.index.json").write_text('{"weight_map": {"a": "b"}}')
    assert "its part b is missing" in message_of(load_weights, model, tmp_path / "a.safetensors.index.json")


SIZES = {"in_channels": 6, "hidden_channels": 5}


def build(name, classes, **options):
    if model_domain(name) == "graphs":
        options = SIZES | options
    if model_domain(name) == "points":
        options = {"in_channels": 3} | options
    with torch.device("meta"):
        return create_model(name, num_classes=classes, **options)


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize("name", list_models())
def test_every_head_can_be_swapped(name):
    model, other = build(name, 4), build(name, 9)
    theirs = other.state_dict()
    changed = {key for key, value in model.state_dict().items() if value.shape != theirs[key].shape}
    with pytest.raises(ValueError, match=r"are for 9 classes, this .* has 4"):
        load_weights(model, theirs)
    done = load_weights(model, theirs, swap_head=True)
    assert changed <= set(done.initialized)
    assert all(key.startswith(f"{model.output_layer}.") for key in done.initialized)
    assert set(done.initialized) | set(done.loaded) == theirs.keys()
    assert model.get_submodule(model.output_layer) is not model


def test_several_attention_heads_are_not_mistaken_for_classes():
    model, other = (build("gat", classes, output_heads=8) for classes in (3, 6))
    with pytest.raises(ValueError, match=r"for 6 classes, this GAT has 3"):
        load_weights(model, other.state_dict())


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(0)
    network = torchvision.models.resnet18(num_classes=7).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)
    return network


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize(
    ("prefix", "wrap"),
    [("", lambda state: state), ("module._orig_mod.", lambda state: {"state_dict": state, "epoch": 3})],
)
def test_torchvisions_and_timms_residual_networks(theirs, tmp_path, prefix, wrap):
    """timm's ResNets have torchvision's names and shapes, all of them."""
    state = {f"{prefix}{key}": value for key, value in theirs.state_dict().items()}
    torch.save(wrap(state), tmp_path / "checkpoint.pth.tar")
    model = create_model("resnet18", weights=tmp_path / "checkpoint.pth.tar", num_classes=7).eval()
    x = torch.randn(1, 3, 32, 32)
    assert model(x).equal(theirs(x))
    assert all(v.equal(theirs.state_dict()[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_timms_own(name):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs = timm.create_model(name, num_classes=7).eval()
    model = create_model(name, num_classes=7).eval()
    done = load_weights(model, theirs.state_dict())
    assert (done.missing, done.initialized) == ((), ())
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(model(x), theirs(x), atol=1e-4, rtol=1e-4)


def test_other_image_networks_do_without_torchvision():
    """In another process: the zoo's operators must not be registered again in this one, where others hold them."""
    code = """
import sys
sys.modules["torchvision"] = None  # any import of it fails
from comhe.zoo import create_model
for name in ("cnn6", "resnet20", "wrn_16_4", "vgg16_bn"):
    create_model(name)
try:
    create_model("resnet18")
except ModuleNotFoundError as error:
    print(error)
"""
    done = python("-c", code)
    assert done.stdout.endswith("pip install 'comhe[zoo]'\n"), done.stderr


def test_weights_that_cannot_be_downloaded_are_one_line(monkeypatch):
    def offline(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    assert message_of(create_model, "resnet18", weights="IMAGENET1K_V1") == (
        "torchvision's IMAGENET1K_V1 of resnet18 could not be downloaded (<urlopen error no network>)"
    )

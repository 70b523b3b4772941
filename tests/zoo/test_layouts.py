"""Weights in the layouts of others, and a head for other classes in every network of the registry."""

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torch_geometric.nn import GCNConv

from comhe.zoo import create_model, list_models, load_weights, model_domain, read_state

SIZES = {"in_channels": 6, "hidden_channels": 5}


def build(name, classes, **options):
    if model_domain(name) == "graphs":
        options = SIZES | options
    if model_domain(name) == "points":
        options = {"in_channels": 3} | options
    with torch.device("meta"):
        return create_model(name, num_classes=classes, **options)


@pytest.mark.parametrize("name", list_models())
def test_every_head_can_be_swapped(name):
    model, other = build(name, 4), build(name, 9)
    theirs = other.state_dict()
    changed = {key for key, value in model.state_dict().items() if value.shape != theirs[key].shape}
    with pytest.raises(ValueError, match=r"are for 9 classes, this .* has 4"):
        load_weights(model, theirs)
    done = load_weights(model, theirs, swap_head=True)
    assert changed <= set(done.fresh)
    assert all(key.startswith(f"{model.output_layer}.") for key in done.fresh)
    assert set(done.fresh) | set(done.loaded) == theirs.keys()
    assert model.get_submodule(model.output_layer) is not model


def test_several_attention_heads_are_not_mistaken_for_classes():
    model, other = (build("gat", classes, output_heads=8) for classes in (3, 6))
    with pytest.raises(ValueError, match=r"for 6 classes, this GAT has 3"):
        load_weights(model, other.state_dict())


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "epoch": 3}])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_torchvisions_and_timms_residual_networks(tmp_path, prefix, wrap):
    """timm's ResNets have torchvision's names and shapes, all of them."""
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(num_classes=7).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)
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
    assert (done.missing, done.fresh) == ((), ())
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(model(x), theirs(x), atol=1e-4, rtol=1e-4)


class PyG(nn.Module):
    """PyTorch Geometric's usual example."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = GCNConv(6, 5), GCNConv(5, 3)

    def forward(self, x, edge_index):
        return self.conv2(F.relu(self.conv1(x, edge_index)), edge_index)


LAYOUTS = {
    "example": lambda state: state,
    "old example": lambda state: {
        key.replace(".lin", ""): value.t() if "lin" in key else value for key, value in state.items()
    },
    "old models.GCN": lambda state: {
        key.replace(".lin", "").replace("conv1", "convs.0").replace("conv2", "convs.1"): value.t()
        if "lin" in key
        else value
        for key, value in state.items()
    },
    "pygcn": lambda state: {
        key.replace(".lin", "").replace("conv", "gc"): value.t() if "lin" in key else value
        for key, value in state.items()
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_graph_convolutional_networks(layout):
    torch.manual_seed(0)
    theirs = PyG().eval()
    for conv in (theirs.conv1, theirs.conv2):
        nn.init.uniform_(conv.bias)
    model = create_model("gcn", num_classes=3, **SIZES).eval()
    done = load_weights(model, LAYOUTS[layout](theirs.state_dict()))
    assert len(done.loaded) == 4
    x, edges = torch.rand(8, 6), torch.randint(8, (2, 20))
    torch.testing.assert_close(model(x, edges), theirs(x, edges))
    with pytest.raises(ValueError, match=r"for 3 classes, this GCN has 4"):
        load_weights(create_model("gcn", num_classes=4, **SIZES), LAYOUTS[layout](theirs.state_dict()))


def test_wrapped_models_are_loaded_inside():
    state = {f"module.{key}": value for key, value in create_model("cnn6", num_classes=3).state_dict().items()}
    model = create_model("cnn6", num_classes=3)
    for wrapped in (nn.DataParallel(model), torch.compile(model)):
        model.reset_parameters()
        load_weights(wrapped, state)
        assert all(value.equal(state[f"module.{key}"]) for key, value in model.state_dict().items())


def test_files_that_hold_no_state_dict(tmp_path):
    (tmp_path / "text.pt").write_text("not a checkpoint")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "other.pt")
    torch.save({}, tmp_path / "empty.pt")
    (tmp_path / "broken.safetensors").write_bytes(b"12345678")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(ValueError) as error:
            read_state(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)

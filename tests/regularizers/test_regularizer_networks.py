"""Every regularizer on other people's networks: torchvision's, PyTorch Geometric's and this zoo's."""

from functools import cache

import pytest
import torch
import torchvision
from torch import nn
from torch_geometric.nn import models as pyg

from comhe.regularizers import create_regularizer, hyperspherical_energy, list_regularizers, neurons
from comhe.regularizers.sources import sources
from comhe.zoo import create_model, list_models

# One small member of each family; the others are looked at on the meta device, where nothing is computed.
SMALL = ["mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1"]
# Of the zoo's own, those that take seconds to build.
LARGE = ["resnet34", "resnet34_cifar", "resnet50", "resnet50_cifar", "resnet110", "resnet1001", "wrn_28_10"]
ZOO = [name for name in list_models() if name not in (*SMALL, *LARGE)]
GRAPH = {
    "GCN": lambda: pyg.GCN(12, 8, 2, 4),
    "GraphSAGE": lambda: pyg.GraphSAGE(12, 8, 2, 4),
    "GIN": lambda: pyg.GIN(12, 8, 2, 4),
    "GAT": lambda: pyg.GAT(12, 8, 2, 4, heads=2),
    "PNA": lambda: pyg.PNA(12, 8, 2, 4, aggregators=["mean", "max"], scalers=["identity"], deg=torch.ones(3).long()),
    "EdgeCNN": lambda: pyg.EdgeCNN(12, 8, 2, 4),
    "MLP": lambda: pyg.MLP([12, 8, 4]),
    "JumpingKnowledge-GCN": lambda: pyg.GCN(12, 8, 2, 4, jk="cat"),
    "AttentiveFP": lambda: pyg.AttentiveFP(12, 8, 4, edge_dim=3, num_layers=2, num_timesteps=2),
    "GraphUNet": lambda: pyg.GraphUNet(12, 8, 4, depth=2),
    "LINKX": lambda: pyg.LINKX(20, 12, 8, 4, num_layers=2),
}


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name in GRAPH:
        return GRAPH[name]()
    if name == "shufflenet":
        return torchvision.models.ShuffleNetV2([1, 1, 1], [24, 48, 96, 192, 256], num_classes=10)
    if name in SMALL:
        return torchvision.models.get_model(name, weights=None, num_classes=10)
    if name in list_models(domain="graphs"):
        return create_model(name, in_channels=12, num_classes=4)
    return create_model(name)


def check(model: nn.Module, regularizer) -> float:
    """The value, which is finite, and a finite gradient for every selected weight."""
    value = regularizer()
    assert value.isfinite()
    parameters = list(dict.fromkeys(p for layer in regularizer.layers for p in sources(layer.module)))
    for p, grad in zip(parameters, torch.autograd.grad(value, parameters, allow_unused=True), strict=True):
        assert grad is not None, [name for name, q in model.named_parameters() if q is p]
        assert grad.isfinite().all()
    return value.item()


@pytest.mark.parametrize("name", [*SMALL, *GRAPH, *ZOO])
def test_the_value_is_the_plain_formula(name):
    # In double precision: of 32 neurons in three dimensions some are nearly parallel, and 1 - c^2 is all rounding.
    model = build(name).double()
    regularizer = create_regularizer("hs-mhe", model, weight=2.0, output_weight=5.0)
    names = [layer.name for layer in regularizer.layers]
    outputs = [layer.name for layer in regularizer.layers if layer.role == "output"]
    assert len(outputs) <= 1 or len({name.rpartition(".")[0] for name in outputs}) == 1  # of one convolution
    expected = 0.0
    for layer in regularizer.layers:
        w = neurons(model.get_submodule(layer.name)).detach().reshape(layer.shape)
        half = layer.role == "hidden"
        expected += (2.0 if half else 5.0) * hyperspherical_energy(w, 2, half, min_norm=0.01).mean().item()
    assert check(model, regularizer) == pytest.approx(expected, rel=1e-10)
    assert len(set(names)) == len(names)


built = cache(build)  # no regularizer changes the network


@pytest.mark.parametrize("regularizer", [name for name in list_regularizers() if name not in ("none", "hs-mhe")])
@pytest.mark.parametrize("name", ["shufflenet", "squeezenet1_1", "GAT", "gcn2"])
def test_every_regularizer(name, regularizer):
    model = built(name)
    options = {"dim": 8, "count": 3} if regularizer == "rp-comhe" else {}
    check(model, create_regularizer(regularizer, model, **options))


# torchvision's RegNets look into their own tensors while they are built, which the meta device does not allow.
META = [name for name in torchvision.models.list_models(module=torchvision.models) if not name.startswith("regnet")]


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize(("library", "name"), [*(("torchvision", n) for n in META), *(("zoo", n) for n in LARGE)])
def test_every_weight_is_selected_or_skipped_for_a_reason(library, name):
    kwargs = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.device("meta"):
        if library == "zoo":
            model = create_model(name, num_classes=1000)
        else:
            model = torchvision.models.get_model(name, weights=None, **kwargs)
    regularizer = create_regularizer("mhe", model)
    modules = dict(model.named_modules())
    known = {id(p) for layer in regularizer.layers for p in sources(layer.module)}
    known |= {id(p) for item in regularizer.skipped for p in modules[item.name].parameters(recurse=False)}
    matrices = [key for key, p in model.named_parameters() if p.dim() >= 2 and "weight" in key and id(p) not in known]
    assert matrices == []
    (output,) = [layer for layer in regularizer.layers if layer.role == "output"]
    assert output.shape[-2] == 1000

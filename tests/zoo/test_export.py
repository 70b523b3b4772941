"""Every network as an exported program and as ONNX, against itself, also on sizes other than the example's.

``torch.export`` is checked for all but the deepest networks, which have the blocks of their smaller kin (deep ones in
the long form); ONNX for one network of each kind, because writing it takes longer than all else. PointNet++ has fewer
centers here.
"""

import importlib.util
import sys

import pytest
import torch
from torch import nn

from comhe.zoo import create_model, model_domain
from comhe.zoo.export import export_model, export_onnx, graph_inputs

from .conftest import networks

DEEPEST = {"resnet1001", "resnet164", "resnet110", "resnet56", "resnet44", "wrn_28_10"}  # the same blocks, more of them
DEEP = {"resnet32", "resnet32_wide", "resnet34", "resnet34_cifar", "resnet50_cifar"}
ONNX = ["cnn6", "resnet8", "wrn_16_4", "resnet18", "pointnet_t", "pointnet2_ssg", "dgcnn", "gcn", "gat", "sage", "gcn2"]


def build(name):
    torch.manual_seed(0)
    options = {"in_channels": 6} if model_domain(name) == "graphs" else {}
    model = create_model(name, num_classes=5, **options).eval()
    if name.startswith("pointnet2"):
        model.centers = (6, 3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model


def example(model, domain, more):
    """Inputs of one size, or with ``more`` of another, and the logits they should give."""
    generator = torch.Generator().manual_seed(more)
    if domain == "graphs":
        x = torch.rand(7 + more, 6, generator=generator)
        edges = torch.randint(7 + more, (2, 20 + 3 * more), generator=generator)
        return graph_inputs(model, x, edges), model(x, edges)
    shape = (2 + more, 24, 3) if domain == "points" else (2 + more, 3, 32, 32)
    x = torch.randn(shape, generator=generator)
    return (x,), model(x)


@pytest.mark.parametrize("name", networks(DEEP, without=DEEPEST))
def test_torch_export(name):
    model = build(name)
    with torch.no_grad():
        inputs, _ = example(model, model_domain(name), 0)
        program = export_model(model, *inputs).module()
        for more in (0, 1):
            inputs, logits = example(model, model_domain(name), more)
            torch.testing.assert_close(program(*inputs), logits, atol=1e-5, rtol=1e-4)


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("onnx", "onnxscript", "onnxruntime"))),
    reason="ONNX needs pip install 'comhe[export]'",
)
@pytest.mark.parametrize("name", ONNX)
@pytest.mark.filterwarnings("ignore")  # of the packages that write ONNX
def test_onnx(name, tmp_path):
    import onnxruntime

    model = build(name)
    with torch.no_grad():
        inputs, _ = example(model, model_domain(name), 0)
        export_onnx(model, tmp_path / "model.onnx", *inputs)
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
        for more in (0, 1):
            inputs, logits = example(model, model_domain(name), more)
            feed = {node.name: tensor.numpy() for node, tensor in zip(session.get_inputs(), inputs, strict=True)}
            (found,) = session.run(None, feed)
            torch.testing.assert_close(torch.from_numpy(found), logits, atol=1e-4, rtol=1e-3)


def test_missing_packages_are_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"pip install 'comhe\[export\]'"):
        export_onnx(build("cnn6"), tmp_path / "model.onnx", torch.zeros(2, 3, 32, 32))

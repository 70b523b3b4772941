"""Every network of the zoo in every mode that PyTorch runs a network in, on small inputs of odd sizes.

The deepest networks are left out where they repeat the blocks of their smaller kin, and the widest. The modes in which
graph networks need care of their own, compiled training and transformed functions, are at the end.
"""

import copy
from functools import partial

import pytest
import torch
from torch.func import functional_call, grad, vmap

from comhe.errors import UsageError
from comhe.regularizers import create_regularizer, output_layers
from comhe.zoo import create_model, list_models, model_domain
from comhe.zoo.graphs import SparseMatrix

from .conftest import networks

DEEPEST = {"resnet32", "resnet34", "resnet44", "resnet50", "resnet56", "resnet110", "resnet164", "resnet1001"}
WIDE = {"resnet32_wide", "wrn_28_10", "cnn9", "cnn15"}
sweep = partial(networks, {"resnet34_cifar", "resnet50_cifar"})
GRAPHS = list_models(domain="graphs")
BLOCKS_COMPILED = {
    "resnet18",
    "resnet20",
    "wrn_16_4",
    "pointnet",
    "pointnet2_msg",
}  # elsewhere, or in the networks beside them
SMALLEST = {"airbench94": 9, "cnn6": 32, "vgg16_bn": 32, "dgcnn": 20}  # pixels a side, or points
FLOATS = (torch.float64, torch.bfloat16, torch.float16)


@pytest.fixture(scope="module")
def models():
    """One model of each name, built when it is first asked for, in evaluation and with few centers."""
    built = {}

    def get(name):
        if name not in built:
            torch.manual_seed(0)
            options = {"in_channels": 6, "hidden_channels": 4} if name in GRAPHS else {}
            options |= {"gcn2": {"num_layers": 2}, "appnp": {"num_steps": 2}}.get(name, {})
            built[name] = create_model(name, num_classes=3, **options).eval()
            if name.startswith("pointnet2"):
                built[name].centers = (6, 3)
        return built[name]

    return get


def example(name, count=2, size=None, dtype=torch.float32):
    """The arguments of a network: some images or clouds, or one graph of ``size`` nodes."""
    generator = torch.Generator().manual_seed(count)
    domain = model_domain(name)
    if domain == "graphs":
        size = 7 if size is None else size
        edges = torch.randint(max(size, 1), (2, 3 * size), generator=generator)
        return torch.rand(size, 6, generator=generator).to(dtype), edges
    size = max(SMALLEST.get(name, 0), 16 if domain == "images" else 21) if size is None else size
    shape = (count, 3, size, size) if domain == "images" else (count, size, 3)
    return (torch.randn(shape, generator=generator).to(dtype),)


@pytest.mark.parametrize("name", sweep(DEEPEST | WIDE))
def test_batches_of_none_and_of_one_and_odd_sizes(models, name):
    model = models(name)
    with torch.inference_mode():
        if name in GRAPHS:
            for size in (0, 1, 5):
                assert model(*example(name, size=size)).shape == (size, 3)
            return
        two = model(*example(name))
        for count in (0, 1):
            assert model(*example(name, count)).shape == (count, 3)
        torch.testing.assert_close(model(example(name)[0][1:]), two[1:], atol=1e-4, rtol=1e-4)
        least = SMALLEST.get(name, 1)
        for size in (least, least + 1, 2 * least + 3):
            assert model(*example(name, 1, size)).isfinite().all()
        if least > 1:
            with pytest.raises(UsageError, match=f"{least} x {least} pixels|{least} nearest of {least - 1} points"):
                model(*example(name, 1, least - 1))


@pytest.mark.parametrize("name", sweep(DEEPEST | WIDE))
def test_every_dtype_and_autocast(models, name):
    model, arguments = models(name), example(name, 1)
    with torch.inference_mode():
        logits = model(*arguments)
        for dtype in FLOATS:
            found = copy.deepcopy(model).to(dtype)(*example(name, 1, dtype=dtype))
            assert found.dtype == dtype
            close = 1e-3 if dtype == torch.float64 else 0.2
            torch.testing.assert_close(found.float(), logits, atol=close * (1 + logits.abs().max().item()), rtol=0)
        with torch.autocast("cpu", torch.bfloat16):
            found = model(*arguments)
        torch.testing.assert_close(found.float(), logits, atol=0.2 * (1 + logits.abs().max().item()), rtol=0)


@pytest.mark.parametrize("name", sweep(DEEPEST | WIDE | {"cnn6", "vgg16_bn", "resnet18", "wrn_16_4"}))
def test_training_under_autocast_and_in_bfloat16(models, name):
    size = 8 if name.endswith("_cifar") else None  # their blocks are wide
    for model, autocast in ((copy.deepcopy(models(name)), True), (copy.deepcopy(models(name)).bfloat16(), False)):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits = model.train()(*example(name, size=size, dtype=torch.float32 if autocast else torch.bfloat16))
        logits.float().square().sum().backward()
        for key, parameter in model.named_parameters():
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("name", sweep(DEEPEST | WIDE))
def test_functional_call(models, name):
    model, arguments = models(name), example(name, 1)
    with torch.inference_mode():
        assert functional_call(model, dict(model.state_dict()), arguments).equal(model(*arguments))


@pytest.mark.parametrize("name", sweep(DEEPEST | WIDE | BLOCKS_COMPILED))
def test_compiled(models, name):
    model, arguments = models(name), example(name)
    torch._dynamo.reset()
    with torch.no_grad():
        found = torch.compile(model, backend="eager", fullgraph=name in GRAPHS)(*arguments)
        torch.testing.assert_close(found, model(*arguments), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", sweep(DEEPEST | WIDE))
def test_the_output_layer_is_the_last_one_in_a_forward_pass(models, name):
    layers = create_regularizer("hs-mhe", models(name)).layers
    assert [layer.name for layer in layers if layer.role == "output"] == output_layers(models(name), *example(name))


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_network_is_compiled_for_training_and_exported(models, name):
    model, (x, edges) = copy.deepcopy(models(name)), example(name)
    view = model.prepare(edges, len(x))
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager" if name == "gcn" else "eager", fullgraph=True)
    torch.testing.assert_close(compiled(SparseMatrix.from_torch(x), view), model(x, view), atol=1e-6, rtol=1e-5)
    found = torch.autograd.grad(compiled(SparseMatrix.from_torch(x), view).square().sum(), list(model.parameters()))
    expected = torch.autograd.grad(model(x, view).square().sum(), list(model.parameters()))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    sizes = ({0: torch.export.Dim.AUTO}, {1: torch.export.Dim.AUTO})
    with torch.no_grad():
        program = torch.export.export(model, (x, edges), dynamic_shapes=sizes).module()
        for size in (7, 12):
            inputs = example(name, size=size)
            torch.testing.assert_close(program(*inputs), model(*inputs), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_network_is_transformed_as_a_function(models, name):
    model, (x, edges) = models(name), example(name)
    parameters = {key: p.detach() for key, p in model.named_parameters()}
    for graph in (edges, model.prepare(edges, len(x))):
        found = grad(lambda p, graph=graph: functional_call(model, p, (x, graph)).square().sum())(parameters)
        expected = torch.autograd.grad(model(x, edges).square().sum(), list(model.parameters()))
        torch.testing.assert_close(tuple(found.values()), expected, atol=1e-5, rtol=1e-4)
        many = torch.stack([x, x.flip(0), 2 * x])
        each = torch.stack([model(one, edges) for one in many])
        torch.testing.assert_close(vmap(lambda x, graph=graph: model(x, graph))(many), each, atol=1e-5, rtol=1e-4)

"""PointNet: invariance, its transforms and their loss."""

import copy
import pickle
import weakref

import pytest
import torch
from torch.func import functional_call

from comhe.regularizers import create_regularizer
from comhe.zoo import create_model

from .conftest import cloud, randomized, small


@pytest.mark.parametrize("name", ["pointnet", "pointnet_t", "dgcnn"])
def test_the_order_of_the_points_does_not_matter(name):
    model, x = randomized(small(name)).eval(), cloud(size=64)
    shuffled = x[:, torch.randperm(64, generator=torch.Generator().manual_seed(1))]
    if name == "pointnet":
        assert model(shuffled).equal(model(x))
    torch.testing.assert_close(model(shuffled), model(x), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(model(cloud(size=64, seed=1)), model(x), atol=1e-2)


def test_the_transforms_loss():
    model, x = small("pointnet_t", orthogonality=0.01), cloud()
    with pytest.raises(RuntimeError, match=r"call model\(x\) first"):
        model.auxiliary_loss()
    model(x)
    assert model.auxiliary_loss().item() == 0  # the identity
    randomized(model)
    matrices = []
    handle = model.feature_transform.register_forward_hook(lambda *a: matrices.append(a[2]))
    model(x)
    handle.remove()
    expected = sum((t @ t.T - torch.eye(64)).square().sum() for t in matrices[0]) * 0.01 / 2
    loss = model.auxiliary_loss()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert model.feature_transform.head.output.weight.grad.any()
    model.eval()(x)
    with pytest.raises(RuntimeError, match="last forward pass in training"):
        model.auxiliary_loss()
    other = small("pointnet")
    other(x)
    assert other.auxiliary_loss().item() == 0


def test_a_step_begins_without_the_graph_of_the_step_before():
    """Whose nodes belong to another stream while a step is recorded for a GPU."""
    model, x = small("pointnet_t"), cloud()
    matrices, alive = [], []
    model.feature_transform.register_forward_hook(lambda *a: matrices.append(weakref.ref(a[2])))
    model.input_transform.register_forward_pre_hook(lambda *a: alive.append([ref() is not None for ref in matrices]))
    for _ in range(2):
        (model(x).sum() + model.auxiliary_loss()).backward()
    assert alive == [[], [False]]


def test_a_model_that_has_just_been_trained_can_be_copied():
    model, x = small("pointnet_t"), cloud()
    model(x)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert copied.eval()(x).equal(model.eval()(x))
        model.train()


def test_the_loss_follows_substituted_parameters():
    model, x = randomized(small("pointnet_t")), cloud()
    parameters = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    (functional_call(model, parameters, (x,)).sum() * 0 + model.auxiliary_loss()).backward()
    assert parameters["feature_transform.head.output.weight"].grad.any()
    assert model.feature_transform.head.output.weight.grad is None


def test_transforms_can_be_left_out_of_a_regularizer():
    model = create_model("pointnet_t")
    regularizer = create_regularizer("hs-mhe", model, exclude="*_transform.head.output")
    left = {item.name for item in regularizer.skipped}
    assert left == {"input_transform.head.output", "feature_transform.head.output"}
    regularizer = create_regularizer("hs-mhe", model, exclude="*_transform.*")
    assert {layer.name.split(".")[0] for layer in regularizer.layers} == {"local", "features", "head"}


def test_compiled_with_its_loss():
    model, x = randomized(small("pointnet_t")), cloud(2, 24)
    expected, loss = model(x), model.auxiliary_loss()
    compiled = torch.compile(model, backend="eager")
    torch.testing.assert_close(compiled(x), expected)
    torch.testing.assert_close(compiled.auxiliary_loss(), loss)
    torch.compiler.reset()

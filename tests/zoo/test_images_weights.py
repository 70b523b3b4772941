"""Weights into models: strictly, with another head only on request; and torchvision where it is missing or broken."""

import importlib
import pickle
import sys
from fractions import Fraction

import pytest
import torch
import torchvision

import comhe.zoo
from comhe.zoo import create_model
from comhe.zoo.weights import load_weights


def snapshot(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(a[key].equal(b[key]) for key in a)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return create_model("resnet20", num_classes=10)


def test_what_fits_is_loaded_whole(model):
    state = snapshot(create_model("resnet20", num_classes=10))
    for swap_head in (False, True):
        model.reset_parameters()
        done = load_weights(model, state, swap_head)
        assert (done.loaded, done.missing, done.fresh) == (tuple(state), (), ())
        assert same(snapshot(model), state)


def test_a_head_for_other_classes_is_swapped_only_on_request(model):
    state, before = snapshot(create_model("resnet20", num_classes=100)), snapshot(model)
    with pytest.raises(ValueError) as error:
        load_weights(model, state)
    assert str(error.value) == (
        "the weights are for 100 classes, this CifarResNet has 10: build it with num_classes=100, or pass "
        "swap_head=True to leave fc.weight, fc.bias as initialised"
    )
    assert same(snapshot(model), before)
    done = load_weights(model, state, swap_head=True)
    assert done.fresh == ("fc.weight", "fc.bias")
    assert done.loaded == tuple(key for key in state if not key.startswith("fc."))
    assert str(done) == f"{len(state) - 2} tensors loaded; left as initialised: fc.weight, fc.bias"
    after = snapshot(model)
    for key in after:
        assert after[key].equal(before[key] if key.startswith("fc.") else state[key]), key


@pytest.mark.parametrize("swap_head", [False, True])
@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda state: state.pop("conv1.weight"), "missing: conv1.weight"),
        (lambda state: state.pop("fc.bias"), "missing: fc.bias"),
        (lambda state: state.update(extra=torch.ones(1)), "unexpected: extra"),
        (
            lambda state: state.update({"conv1.weight": torch.ones(16, 1, 3, 3)}),
            r"of another shape: conv1.weight \[16, 1, 3, 3\], not \[16, 3, 3, 3\]",
        ),
        (
            lambda state: state.update({"fc.weight": torch.ones(10, 32)}),
            r"of another shape: fc.weight \[10, 32\], not \[10, 64\]",
        ),
        (
            lambda state: state.update({f"net.{key}": state.pop(key) for key in list(state)}),
            r"missing: conv1.weight, .* and \d+ more; unexpected: net.conv1.weight, .* and \d+ more",
        ),
    ],
)
def test_everything_else_is_one_error(model, swap_head, change, fault):
    before = snapshot(model)
    for classes in (10, 100):
        state = snapshot(create_model("resnet20", num_classes=classes))
        change(state)
        with pytest.raises(ValueError, match=rf"do not fit this CifarResNet \(.*{fault}") as error:
            load_weights(model, state, swap_head)
        assert "\n" not in str(error.value)
        assert same(snapshot(model), before)


def test_counters_of_batches_may_be_missing(model):
    full = snapshot(create_model("resnet20", num_classes=10))
    state = {key: value for key, value in full.items() if not key.endswith("num_batches_tracked")}
    done = load_weights(model, state)
    assert {*done.loaded, *done.missing} == full.keys()
    assert all(name.endswith("num_batches_tracked") for name in done.missing)
    assert "missing: bn1.num_batches_tracked, " in str(done)
    assert same(snapshot(model), full)


@pytest.fixture
def imagenet(tmp_path, monkeypatch):
    """A state dict for 1000 classes where torchvision looks for its download of ResNet-18's."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(7)
    state = torchvision.models.resnet18().state_dict()
    torch.save(state, folder / torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url.rpartition("/")[2])
    return state


def test_torchvisions_weights(imagenet):
    assert same(create_model("resnet18", weights="IMAGENET1K_V1").state_dict(), imagenet)
    with pytest.raises(ValueError, match=r"for 1000 classes, this ResNet has 10: build it with num_classes=1000, or"):
        create_model("resnet18", weights="IMAGENET1K_V1", num_classes=10)
    model = create_model("resnet18", weights="IMAGENET1K_V1", num_classes=10, swap_head=True)
    assert model.fc.weight.shape == (10, 512)
    assert all(value.equal(imagenet[key]) for key, value in model.state_dict().items() if not key.startswith("fc."))
    with pytest.raises(ValueError, match=r"conv1.weight \[64, 3, 7, 7\], not \[64, 1, 7, 7\]"):
        create_model("resnet18", weights="IMAGENET1K_V1", in_channels=1)
    with pytest.raises(ValueError, match=r"^resnet18 has no weights 'V9'; torchvision has IMAGENET1K_V1$"):
        create_model("resnet18", weights="V9")


def test_downloads_are_not_unpickled_freely(imagenet, tmp_path):
    (file,) = tmp_path.rglob("resnet18*")
    torch.save({**imagenet, "conv1.weight": Fraction(1, 2)}, file)
    with pytest.raises(pickle.UnpicklingError):
        create_model("resnet18", weights="IMAGENET1K_V1")


@pytest.mark.parametrize(
    "failure",
    [
        'RuntimeError("operator torchvision::nms does not exist")',
        "AttributeError(\"partially initialized module 'torchvision' has no attribute 'extension'\")",
    ],
)
def test_torchvision_for_another_torch_is_an_error_that_names_the_fix(tmp_path, monkeypatch, failure):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(f"raise {failure}\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in list(sys.modules):
        if name.partition(".")[0] == "torchvision" or name == "comhe.zoo.images.resnet":
            monkeypatch.delitem(sys.modules, name)
    for _ in range(2):
        with pytest.raises(ImportError) as error:
            create_model("resnet18")
        text = str(error.value)
        assert text.startswith("torchvision ")
        assert f"does not fit torch {torch.__version__} (" in text
        assert "pip install --upgrade --force-reinstall torch torchvision" in text
        assert "\n" not in text
    create_model("resnet20")


def test_other_image_networks_do_without_torchvision(monkeypatch):
    monkeypatch.setattr(comhe, "zoo", comhe.zoo)
    for name in [name for name in sys.modules if name.startswith("comhe.zoo")]:
        monkeypatch.delitem(sys.modules, name)  # a fresh import of the zoo
    monkeypatch.setitem(sys.modules, "torchvision", None)  # in which any import of torchvision fails
    create = importlib.import_module("comhe.zoo").create_model
    assert create is not create_model
    for name in ("cnn6", "resnet20", "wrn_16_4", "vgg16_bn"):
        create(name)
    with pytest.raises(ModuleNotFoundError):
        create("resnet18")

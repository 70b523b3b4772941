"""torchvision's residual networks by name, and torchvision missing or broken."""

import sys

import pytest
import torch
import torchvision

from comhe.zoo import create_model

from .conftest import count, meta

IMAGENET = {"resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032}


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize("name", IMAGENET)
def test_counts_of_imagenet_resnets(name):
    assert count(meta(name)) == IMAGENET[name]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_imagenet_resnets_are_torchvisions(name):
    torch.manual_seed(0)
    ours = create_model(name, num_classes=5)
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, num_classes=5)
    assert isinstance(ours, torchvision.models.ResNet)
    assert str(ours) == str(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(a.equal(b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


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

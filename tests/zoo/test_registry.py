"""Registration of models, from outside of this package as well."""

import pytest
from torch import nn

from comhe.errors import UsageError
from comhe.zoo import create_model, list_models, model_domain, register_model
from comhe.zoo.registry import natural_key


def test_the_name_of_a_function_is_that_of_its_model(clean_registry):
    @register_model
    def tiny(width: int = 3, **kwargs) -> nn.Module:
        return nn.Linear(width, width, **kwargs)

    assert create_model("tiny", width=5, bias=False).weight.shape == (5, 5)
    assert model_domain("tiny") == "custom"


def test_a_model_says_its_domain_and_a_class_its_name(clean_registry):
    @register_model(domain="images", name="tiny_images")
    class Tiny(nn.Linear):
        def __init__(self, num_classes: int) -> None:
            super().__init__(12, num_classes)

    assert type(create_model("tiny_images", num_classes=3)) is Tiny
    assert model_domain("tiny_images") == "images"
    assert "tiny_images" in list_models(domain="images")
    with pytest.raises(UsageError, match="unknown domain 'image'; did you mean images"):
        register_model(domain="image")
    with pytest.raises(TypeError, match=r"write @register_model\(name='tiny', domain='images'\)"):
        register_model("tiny")


def test_a_name_is_taken_once(clean_registry):
    def resnet8(): ...

    with pytest.raises(UsageError) as error:
        register_model(resnet8)
    assert "model 'resnet8' is registered twice, by comhe.zoo.images.resnet_cifar.resnet8 and by " in str(error.value)
    assert f"{__name__}.test_a_name_is_taken_once.<locals>.resnet8; rename" in str(error.value)


def test_a_cell_of_a_notebook_runs_again(clean_registry):
    for width in (3, 5):
        cell = f"@register_model\ndef small(): return nn.Linear({width}, 2)"
        exec(cell, {"__name__": "__main__", "nn": nn, "register_model": register_model})
        assert create_model("small").in_features == width

    def made_by_a_function(width):
        def several():
            return nn.Linear(width, 2)

        return register_model(several)

    made_by_a_function(3)
    with pytest.raises(UsageError, match="'several' is registered twice"):
        made_by_a_function(5)


def test_numbers_in_names_are_sorted_as_numbers():
    assert sorted(["b10", "b9", "a"], key=natural_key) == ["a", "b9", "b10"]

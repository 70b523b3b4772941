"""What is checked before anything is loaded or written."""

import pytest

from comhe.errors import UsageError
from comhe.train.graphs import GraphRecipe, GraphTask
from comhe.train.images import ImageRecipe
from comhe.train.points import PointRecipe
from comhe.train.recipe import domains, get_recipe, list_recipes
from comhe.train.task import check_recipe, make_task


def test_named_recipes_pass():
    models = {"images": "resnet8", "points": "pointnet", "graphs": "gcn"}
    data = {"images": "folder:.", "points": "solids", "graphs": "cora"}
    for domain in domains():
        for name in list_recipes(domain):
            for regularizer in ("none", "rp-comhe", "ap-comhe"):
                check_recipe(get_recipe(name, models[domain], data[domain], regularizer))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "gcm"}, "gcn"),
        ({"model": "cnn9"}, "cnn9 is a model for images, but this is a recipe for graphs"),
        ({"model_options": {"no_such": 1}}, "no_such"),
        ({"data": "coro"}, "did you mean cora"),
        ({"regularizer": "rp-comhee"}, "did you mean rp-comhe"),
        ({"regularizer": "rp-comhe", "regularizer_options": {"foo": 3}}, "foo"),
        ({"regularizer": "rp-comhe", "regularizer_options": {"dim": 0}}, "dim"),
        ({"domain": "sounds"}, "sounds"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(UsageError, match=message):
        check_recipe(GraphRecipe().replace(**changes))


def test_a_folder_that_does_not_exist():
    with pytest.raises(UsageError, match="/nowhere is not a folder"):
        check_recipe(PointRecipe(data="folder:/nowhere"))
    with pytest.raises(UsageError, match="im/photos is not a folder in the current directory, /"):
        check_recipe(PointRecipe(data="folder:im/photos"))


@pytest.mark.parametrize("device", ["cuda:77", "gpu"])
def test_a_device_that_does_not_exist(device):
    with pytest.raises(UsageError, match=f"device '{device}' cannot be used"):
        check_recipe(GraphRecipe(), device)


def test_data_with_a_split_in_their_name_are_known():
    check_recipe(ImageRecipe(model="resnet8", data="cifar100"))
    check_recipe(PointRecipe(data="modelnet40"))


def test_a_recipe_has_the_task_of_its_domain():
    assert isinstance(make_task(GraphRecipe(data="citations")), GraphTask)

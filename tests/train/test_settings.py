import numpy as np
import pytest

from comhe.errors import UsageError
from comhe.train.graphs import GraphRecipe
from comhe.train.images import ImageRecipe
from comhe.train.settings import parse_options, parse_settings, parse_value, parse_weights, variants


def test_values_have_the_types_of_their_fields():
    text = "epochs=5 lr=1 compile=true schedule=step:0.5,0.75,cosine precision=bf16,weight=none,2 log-steps=3"
    assert parse_settings(text, ImageRecipe) == {
        "epochs": [5],
        "lr": [1.0],
        "compile": [True],
        "schedule": ["step:0.5,0.75", "cosine"],
        "precision": ["bf16"],
        "weight": [None, 2.0],
        "log_steps": [3],
    }
    assert parse_settings("epochs=5,precision=bf16", ImageRecipe) == {"epochs": [5], "precision": ["bf16"]}
    assert parse_settings("", ImageRecipe) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs", "name=value"),
        ("epochs=many", "epochs must be of type int, not 'many'"),
        ("epochs=1.5", "int"),
        ("compile=1", "bool"),
        ("epochs=1 epochs=2", "epochs=value,value"),
        ("model=gat", "its own flag"),
        ("seed=3", "its own flag"),
        ("layer_weights=3", "its own flag"),
    ],
)
def test_mistakes(text, message):
    with pytest.raises(UsageError, match=message):
        parse_settings(text, GraphRecipe)


def test_options_have_the_type_that_they_look_like():
    found = parse_options(["dim=30", "rate=1e-4", "span=False", "loss=cosine", "kinds=(1, 2)"])
    assert found == {"dim": 30, "rate": 1e-4, "span": False, "loss": "cosine", "kinds": "(1, 2)"}
    assert [type(value) for value in found.values()] == [int, float, bool, str, str]
    with pytest.raises(UsageError, match="name=value"):
        parse_options(["dim", "30"])
    assert parse_value("weight", "3", float | None) == 3.0


def test_settings_apply_where_they_can():
    recipes = [GraphRecipe(regularizer=name) for name in ("none", "hs-mhe", "rp-comhe")]
    found = variants(recipes, {"weight": [1.0, 2.0], "dim": (8, 9), "epochs": 3})
    assert [recipe.regularizer for recipe in found] == ["none", *["hs-mhe"] * 2, *["rp-comhe"] * 4]
    assert found[0] == recipes[0].replace(epochs=3)
    assert found[-1] == recipes[2].replace(epochs=3, weight=2.0, regularizer_options={"dim": 9})
    assert variants(recipes, {}) == recipes
    swept = {"lr": np.array([0.5, 1.0]), "dim": np.arange(8, 10), "epochs": range(3, 5)}
    assert variants(recipes, swept) == variants(recipes, {"lr": [0.5, 1], "dim": [8, 9], "epochs": [3, 4]})
    with pytest.raises(UsageError, match="did you mean dim"):
        variants(recipes, {"dmi": 3})
    with pytest.raises(UsageError, match="'dim'"):
        variants(recipes[:2], {"dim": 3})


def test_options_are_added_to_those_of_the_recipe():
    (found,) = variants([GraphRecipe(regularizer="rp-comhe", regularizer_options={"span": True})], {"dim": 8})
    assert found.regularizer_options == {"span": True, "dim": 8}
    for setting in ({"distribution": "ternary"}, {"eps": 1e-4}):  # with which the span is an error, if it is asked for
        (found,) = variants([GraphRecipe(regularizer="rp-comhe", regularizer_options={"span": True})], setting)
        assert found.regularizer_options == setting


def test_weights_of_layers():
    found = parse_weights(["blocks-a.*=0.5", "fc=10", "*=1e-2"])
    assert list(found.items()) == [("blocks-a.*", 0.5), ("fc", 10.0), ("*", 0.01)]
    for text in ("fc", "=3"):
        with pytest.raises(UsageError, match=f"layer=weight, with spaces between them, not '{text}'"):
            parse_weights([text])
    with pytest.raises(UsageError, match="the weight of fc must be of type float, not 'much'"):
        parse_weights(["fc=much"])

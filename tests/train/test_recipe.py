"""Recipes: their names, labels and digests, and the registry."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from comhe.errors import UsageError
from comhe.train.graphs import GraphRecipe
from comhe.train.images import ImageRecipe
from comhe.train.points import PointRecipe
from comhe.train.recipe import (
    Recipe,
    domains,
    find_domain,
    get_recipe,
    list_recipes,
    read_recipe,
    register_domain,
    register_recipe,
)

RESULTS = Path(__file__).parents[2] / "results"


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        ("points/short-runs.csv", {}),
        ("images/short-runs.csv", {"precision": "bf16"}),
        ("pointnet2/one_cycle-runs.csv", {"epochs": 40}),
        ("cifar100/one_cycle-runs.csv", {}),
    ],
)
def test_the_digests_in_committed_results_are_those_of_todays_recipes(path, changes):
    with (RESULTS / path).open(newline="") as file:
        for row in csv.DictReader(file):
            recipe = get_recipe(row["recipe"], row["model"], row["data"], row["regularizer"], **changes)
            assert recipe.replace(seed=int(row["seed"])).digest == row["settings"]


@pytest.mark.parametrize("kind", [GraphRecipe, ImageRecipe, PointRecipe])
def test_every_setting_survives_its_file_and_is_explained(kind):
    recipe = kind(recipe="mine", tag="b", lr=0.3, regularizer_options={"dim": 3}, model_options={"width": 2})
    assert kind.from_json(recipe.to_json()) == recipe == read_recipe(recipe.to_json())
    assert all(f.metadata["help"] for f in dataclasses.fields(kind))
    with pytest.raises(UsageError, match="lr, rate"):
        kind.from_json(recipe.to_json().replace('"lr"', '"rate"'))


def test_a_recipe_of_before_there_were_domains_is_read():
    recipe = GraphRecipe(lr=0.3)
    old = {name: value for name, value in json.loads(recipe.to_json()).items() if name not in ("domain", "tag")}
    assert read_recipe(json.dumps(old)) == recipe
    for text in ("[]", "{}", '{"model": "gcn"}'):
        with pytest.raises(ValueError):
            read_recipe(text)


def test_the_digest_tells_settings_apart_and_the_tag():
    recipe = GraphRecipe()
    assert recipe.digest == GraphRecipe().digest
    assert (
        len({r.digest for r in (recipe, recipe.replace(lr=0.3), recipe.replace(seed=1), recipe.replace(tag="a"))}) == 4
    )


def test_what_was_changed_becomes_part_of_the_label():
    recipe = get_recipe("short", "resnet20", "glyphs", "rp-comhe")
    assert recipe.changes() == {}
    assert recipe.label == recipe.name == "resnet20.glyphs-rp-comhe"
    assert recipe.replace(seed=3).label == recipe.label  # seeds of one cell are one row
    changed = recipe.replace(weight=0.1, epochs=2, regularizer_options={"dim": 30}, model_options={"seed": 1})
    assert changed.changes() == {"weight": 0.1, "epochs": 2, "dim": 30, "span": None, "model_seed": 1}
    assert changed.label == "resnet20.glyphs-rp-comhe+dim=30,epochs=2,model_seed=1,span=None,weight=0.1"
    assert changed.replace(tag="b-1").label == "resnet20.glyphs-rp-comhe+b-1"
    assert recipe.replace(data="folder:/a/b").label == "resnet20.folder_a_b-rp-comhe"
    assert "/" not in recipe.replace(schedule="step:0.5", model_options={"a/b": "../c"}).label


def test_a_long_label_is_shortened_and_stays_its_own():
    options = {f"option_{i}": i for i in range(20)}
    labels = {GraphRecipe(model_options=options | {"option_19": i}).label for i in range(3)}
    assert len(labels) == 3
    assert all(len(label) < 120 for label in labels)


def test_equal_settings_make_one_recipe():
    """A learning rate of 1 is 1.0, and NumPy's numbers, of which sweeps are made, are Python's."""
    recipe = GraphRecipe(lr=1.0, epochs=3, regularizer="rp-comhe", regularizer_options={"dim": 10})
    options = {"dim": np.int64(10)}
    for one, three in ((1, 3), (np.float64(1), np.int64(3)), (np.float32(1), np.uint8(3)), (torch.tensor(1.0), 3)):
        other = GraphRecipe(lr=one, epochs=three, regularizer="rp-comhe", regularizer_options=options)
        assert (other.digest, other.label) == (recipe.digest, recipe.label)
        assert read_recipe(other.to_json()) == recipe


def test_without_a_registered_name_changes_are_those_to_the_defaults():
    assert GraphRecipe(recipe="search-3", lr=0.5).label == "gcn.cora-none+lr=0.5"


def test_a_registered_recipe_is_as_good_as_a_built_in_one(registry):
    register_recipe(GraphRecipe(recipe="brief", epochs=3))

    @register_recipe
    def wide(model, data, regularizer) -> GraphRecipe:
        return GraphRecipe(model=model, data=data, regularizer=regularizer, hidden_channels=64)

    assert list_recipes("graphs") == [
        "kipf",
        "tuned",
        "few_labels",
        "noisy_labels",
        "deep",
        "published",
        "brief",
        "wide",
    ]
    assert {"modern", "wide"} < set(list_recipes())
    recipe = get_recipe("wide", "gcn", "cora", "mhe", lr=0.5)
    assert (recipe.recipe, recipe.hidden_channels, recipe.label) == ("wide", 64, "gcn.cora-mhe+lr=0.5")
    assert get_recipe("brief", "gcn", "cora", "mhe").label == "gcn.cora-mhe"
    with pytest.raises(UsageError, match="'kipf' of a recipe for graphs is taken"):
        register_recipe(GraphRecipe(recipe="kipf"))
    register_recipe(GraphRecipe(recipe="brief", epochs=5))  # the cell of a notebook runs again
    assert get_recipe("brief", "gcn", "cora", "mhe").epochs == 5
    names = {"__name__": "another_module", "register_recipe": register_recipe, "GraphRecipe": GraphRecipe}
    with pytest.raises(UsageError, match="'brief' of a recipe for graphs is taken"):
        exec("register_recipe(GraphRecipe(recipe='brief', epochs=7))", names)
    with pytest.raises(UsageError, match="'custom' of a recipe for graphs is taken"):
        register_recipe(GraphRecipe())
    for wrong in ("brief", GraphRecipe):
        with pytest.raises(TypeError, match="is neither a recipe nor a function; write register_recipe"):
            register_recipe(wrong)
    with pytest.raises(UsageError, match="return annotation"):
        register_recipe(lambda model, data, regularizer: GraphRecipe())
    with pytest.raises(UsageError, match="'wide' is for graphs, but cnn9 is a model for images"):
        get_recipe("wide", "cnn9", "glyphs", "none")
    with pytest.raises(UsageError, match=r"unknown recipe 'kipff' for graphs; did you mean kipf"):
        get_recipe("kipff", "gcn", "cora", "none")
    with pytest.raises(UsageError, match=r"GraphRecipe has no setting 'epoch'; did you mean epochs"):
        get_recipe("kipf", "gcn", "cora", "none", epoch=3)


def test_a_domain_of_ones_own(registry):
    @dataclasses.dataclass(frozen=True)
    class SoundRecipe(Recipe):
        domain: str = "sounds"

    register_domain(SoundRecipe, object)
    assert domains() == ["images", "points", "graphs", "sounds"]
    assert find_domain("sounds").recipe is SoundRecipe
    assert list_recipes("sounds") == []
    assert read_recipe(SoundRecipe(lr=2.0).to_json()) == SoundRecipe(lr=2.0)
    with pytest.raises(UsageError, match="already registered, by SoundRecipe"):
        register_domain(SoundRecipe, object)
    with pytest.raises(UsageError, match="needs a default"):
        register_domain(Recipe, object)
    with pytest.raises(UsageError, match="'smells' models cannot be trained"):
        find_domain("smells")


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (ImageRecipe, "loss", "mse"), (ImageRecipe, "pad_mode", "edge"), (ImageRecipe, "normalization", "none"),
        (ImageRecipe, "optimizer", "lion"), (ImageRecipe, "decay", "some"), (ImageRecipe, "accumulate", 0),
        (ImageRecipe, "accumulate", 1000), (ImageRecipe, "batch_size", 0), (ImageRecipe, "momentum", 1.0),
        (ImageRecipe, "label_smoothing", -0.1), (ImageRecipe, "schedule", "linear"), (ImageRecipe, "warmup", 1.0),
        (ImageRecipe, "ema", 1.5), (ImageRecipe, "precision", "fp16"), (ImageRecipe, "clip", -1.0),
        (ImageRecipe, "lr", float("nan")), (ImageRecipe, "tag", "a/b"), (PointRecipe, "augmentation", "pointcloud"),
        (PointRecipe, "points", 0), (PointRecipe, "norm_decay", -0.1), (PointRecipe, "votes", -1),
        (GraphRecipe, "decay", "some"), (GraphRecipe, "epochs", 0), (GraphRecipe, "seed", -1),
    ],
)  # fmt: skip
def test_settings_out_of_range(kind, field, value):
    with pytest.raises(UsageError, match=field):
        kind(**{field: value})
    with pytest.raises(UsageError, match="votes"):
        PointRecipe(votes=3, augmentation="none")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": "20"}, "epochs must be of type int, not '20'"),
        ({"epochs": 2.5}, "epochs must be of type int, not 2.5"),
        ({"epochs": True}, "epochs must be of type int, not True"),
        ({"lr": "0.1"}, "lr must be of type float or int, not '0.1'"),
        ({"weight": "none"}, "weight must be of type float or none or int, not 'none'"),
        ({"compile": 1}, "compile must be of type bool, not 1"),
        ({"model_options": ["dropout"]}, r"model_options must be of type dict, not \['dropout'\]"),
        ({"tag": None}, "tag must be of type str, not None"),
    ],
)
def test_values_of_another_type_are_told(changes, message):
    with pytest.raises(UsageError, match=message):
        get_recipe("kipf", "gcn", "cora", "none", **changes)
    text = json.dumps(json.loads(get_recipe("kipf", "gcn", "cora", "none").to_json()) | changes)
    with pytest.raises(UsageError, match=message):
        read_recipe(text)


def test_weights_of_layers_are_part_of_the_recipe_where_there_are_any():
    plain = get_recipe(None, "resnet20", "glyphs", "hs-mhe")
    recipe = plain.replace(layer_weights={"layer1.*": 0.5, "*": 2.0})
    assert read_recipe(recipe.to_json()) == recipe
    assert recipe.digest != plain.digest
    assert (
        recipe.digest != plain.replace(layer_weights={"*": 2.0, "layer1.*": 0.5}).digest
    )  # the first that matches counts
    earlier = {key: value for key, value in json.loads(plain.to_json()).items() if key != "layer_weights"}
    assert read_recipe(json.dumps(earlier)).digest == plain.digest
    assert recipe.label == "resnet20.glyphs-hs-mhe+_=2.0,layer1._=0.5"
    assert recipe.penalty_weights() == {"weight": {"layer1.*": 0.5, "*": 2.0}}
    rest = plain.replace(layer_weights={"layer1.*": 0.5}, weight=0.1)  # a weight that the cell may have brought along
    assert rest.penalty_weights() == {"weight": {"layer1.*": 0.5, "*": 0.1}}
    assert recipe.replace(weight=0.1).penalty_weights() == recipe.penalty_weights()


@pytest.mark.parametrize(
    ("data", "loaded"),
    [
        ("cora-random", "cora-random7"),
        ("cora-random3", "cora-random3"),
        ("cora", "cora"),
        ("folder-random:my/-random", "folder-random7:my/-random"),
        ("folder:a-random", "folder:a-random"),
    ],
)
def test_a_split_may_be_the_seeds_own(data, loaded):
    assert get_recipe("kipf", "gcn", data, "none", seed=7).dataset == loaded


def test_another_split_of_the_same_data_has_the_settings_that_were_chosen():
    for split in ("cora-random", "cora-random3"):
        found = get_recipe("tuned", "gcn", split, "none")
        assert found == get_recipe("tuned", "gcn", "cora", "none").replace(data=split)
    full = get_recipe("tuned", "gcn", "cora-full", "none")
    assert full.hidden_channels == 16 != found.hidden_channels

"""A data set that somebody registers is as good as a built-in one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from comhe import UsageError
from comhe.datasets import (
    Clouds,
    Graph,
    Images,
    check_dataset,
    dataset_domains,
    describe,
    license_of,
    list_data,
    load_data,
    load_graph,
    load_images,
    load_points,
    register_dataset,
)
from comhe.datasets.registry import unregister_dataset

LABELS = np.arange(20) % 2


def images(root, seed=None, path=None, workers=3):
    calls.append({"root": root, "seed": seed, "path": path, "workers": workers})
    return Images.from_arrays("mine", *[(np.zeros((20, 4, 4, 3), np.uint8), LABELS)] * 2, seed=seed)


def clouds():
    return Clouds.from_arrays("other", *[(np.random.default_rng(0).normal(size=(20, 8, 3)), LABELS)] * 2)


def graph():
    return Graph.from_arrays("mine", np.eye(4), [[0, 1], [1, 2]], [0, 1, 0, 1], [0, 1], [2], [3])


calls: list[dict] = []


@pytest.fixture
def mine():
    register_dataset("mine", "images", images, license="CC0")
    register_dataset("mine.clouds", "points", clouds)
    register_dataset("mine-graph", "graphs")(graph)
    yield
    for name, domain in (("mine", "images"), ("mine.clouds", "points"), ("mine-graph", "graphs")):
        unregister_dataset(name, domain)


def test_a_registered_set_is_listed_loaded_and_described(mine):
    assert {"mine:PATH", "mine-random0:PATH"} <= set(list_data("images"))
    assert "mine.clouds" in list_data("points")
    assert "mine-graph" in list_data("graphs")
    loaded = load_images("mine-random7:some/where", "root", workers=2)
    assert loaded.name == "mine-random7:some/where"
    assert calls[-1] == {"root": Path("root"), "seed": 7, "path": Path("some/where"), "workers": 2}
    assert describe(load_points("mine.clouds"))["name"] == "mine.clouds"
    assert load_data("mine-graph").name == load_graph("mine-graph").name == "mine-graph"
    assert license_of("mine-random7:x") == "CC0"
    assert license_of("mine.clouds") == license_of("nothing") == "unknown"
    assert dataset_domains("mine:x") == ["images"]
    check_dataset("mine:x", "images")


@pytest.mark.parametrize("name", ["mine", "mine-random:x", "mine.clouds-random0", "mine.clouds:x", "mine-graph-full"])
def test_a_name_must_fit_what_the_loader_takes(mine, name):
    for domain in (None, *dataset_domains("folder:x"), "graphs"):
        with pytest.raises(UsageError, match=f"data set '{name}'.*; (did you mean|there are) "):
            check_dataset(name, domain)


def test_duplicates_and_invalid_names_are_refused(mine):
    with pytest.raises(UsageError, match="images already has a data set 'cifar10'"):
        register_dataset("cifar10", "images")(images)
    register_dataset("mine", "images", images)  # the cell of a notebook runs again
    for name in ("", "a:b", "a b", "-a", "a-random3", "../a"):
        with pytest.raises(UsageError, match="cannot be the name of a data set"):
            register_dataset(name, "images", images)
    with pytest.raises(UsageError, match="domain must be 'images' or 'points' or 'graphs', not 'sounds'"):
        register_dataset("a", "sounds", images)
    with pytest.raises(TypeError, match=r"write @register_dataset\('my-data', 'images'\), not <function images"):
        register_dataset(images, "images")
    with pytest.raises(UsageError, match=r"domain must be .* not 'sounds'"):
        load_data("mine", domain="sounds")


def test_a_loader_that_returns_something_else_is_named():
    register_dataset("wrong", "points", graph)
    try:
        with pytest.raises(UsageError, match="the loader of 'wrong' returns Graph, not Clouds"):
            load_points("wrong")
    finally:
        unregister_dataset("wrong", "points")


def test_names_of_all_domains():
    names = list_data()
    assert names == list(dict.fromkeys([*list_data("images"), *list_data("points"), *list_data("graphs")]))
    assert dataset_domains("folder:x") == ["images", "points", "graphs"]
    assert license_of("cora-random3").startswith("MIT")
    assert torch.equal(load_data("solids").test.labels, load_points("solids").test.labels)
    with pytest.raises(UsageError, match="unknown data set 'citeser'; did you mean citeseer"):
        load_data("citeser")


def test_a_path_without_its_prefix_is_advised_to_have_it(tmp_path):
    (tmp_path / "own.pt").touch()
    for load, path, hint in (
        (load_images, tmp_path, f"folder:{tmp_path}"),
        (load_points, str(tmp_path), f"folder:{tmp_path}"),
        (load_graph, tmp_path, f"graph:{tmp_path}"),
        (load_graph, tmp_path / "own.pt", f"graph:{tmp_path}/own.pt"),
        (load_data, tmp_path / "own.pt", f"graph:{tmp_path}/own.pt"),
        (load_data, tmp_path, f"folder:{tmp_path}"),
        (load_images, "CIFAR10", r"did you mean cifar10\?"),
    ):
        with pytest.raises(UsageError, match=f"unknown data set '{path}'.*[ ]{hint}$"):
            load(path)
    with pytest.raises(UsageError, match=f"folder:{tmp_path}$"):
        load_points(tmp_path, up="y")
    with pytest.raises(UsageError, match="there are"):
        load_images(tmp_path / "none")

"""Few labels and wrong labels: how many, of which classes, and the same for everything that is compared."""

import numpy as np
import pytest
import torch

from comhe.datasets import load_graph, load_images, load_points
from comhe.datasets.scarcity import draw_labels
from comhe.errors import UsageError
from comhe.train import get_recipe
from comhe.train.recipe import find_domain

LABELS = np.arange(60) % 4


@pytest.mark.parametrize("per_class", [1, 5, 15])
def test_so_many_of_each_class(per_class):
    rows, labels = draw_labels(LABELS, 4, per_class)
    assert np.bincount(labels).tolist() == [per_class] * 4
    assert (np.diff(rows) > 0).all()
    assert (labels == LABELS[rows]).all()


def test_the_seed_draws_others_and_fewer_are_among_more():
    few, _ = draw_labels(LABELS, 4, 2)
    assert draw_labels(LABELS, 4, 2)[0].tolist() == few.tolist()
    assert draw_labels(LABELS, 4, 2, seed=1)[0].tolist() != few.tolist()
    assert set(few) < set(draw_labels(LABELS, 4, 5)[0])


def test_every_sample_is_drawn_as_often():
    counts = sum(np.bincount(draw_labels(LABELS, 4, 5, seed=seed)[0], minlength=60) for seed in range(900))
    assert abs(counts - 300).max() < 4 * np.sqrt(900 * (1 / 3) * (2 / 3))


@pytest.mark.parametrize("noise", [0.1, 0.5, 0.99])
def test_exactly_that_share_is_wrong_and_every_other_class_as_likely(noise):
    clean = np.zeros(6000, dtype=int)
    rows, labels = draw_labels(clean, 4, noise=noise, seed=3)
    assert len(rows) == 6000
    counts = np.bincount(labels, minlength=4)
    assert counts[0] == 6000 - round(6000 * noise)
    assert abs(counts[1:] - 2000 * noise).max() < 4 * np.sqrt(2000 * noise)
    assert (clean == 0).all()


def test_a_class_without_any_label_stays_without():
    rows, labels = draw_labels([0, 0, 2, 2, 2], 3, 2)
    assert labels.tolist() == [0, 0, 2, 2]
    assert len(rows) == 4


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"per_class": 16}, "labels_per_class=16, but class 0 has 15 training samples"),
        ({"per_class": -1}, "whole number of at least 0, not -1"),
        ({"per_class": 1.5}, "whole number of at least 0, not 1.5"),
        ({"per_class": True}, "whole number"),
        ({"noise": "0.1"}, "label_noise must be at least 0 and less than 1, not '0.1'"),
        ({"noise": float("nan")}, "not nan"),
        ({"labels": [-1, 0, 1]}, r"integers in 0\.\.3"),
        ({"labels": [0, 4]}, r"integers in 0\.\.3"),
        ({"labels": [0.0, 1.0]}, r"integers in 0\.\.3"),
        ({"noise": 1.0}, "less than 1"),
        ({"noise": 0.1, "num_classes": 1}, "only one"),
    ],
)
def test_what_cannot_be(changes, reason):
    with pytest.raises(UsageError, match=reason):
        draw_labels(**{"labels": LABELS, "num_classes": 4} | changes)


@pytest.mark.parametrize(
    ("load", "name"), [(load_images, "digits"), (load_points, "solids"), (load_graph, "citations")]
)
def test_a_set_keeps_its_other_splits(load, name):
    data = load(name)
    few = data.with_labels(3, noise=0.5, seed=2)
    assert data.with_labels() is data
    if name == "citations":
        labels, clean = few.labels[few.train], data.labels[few.train]
        assert set(few.train.tolist()) < set(data.train.tolist())
        others = torch.ones(len(data.labels), dtype=torch.bool).index_fill(0, few.train, False)
        assert few.labels[others].equal(data.labels[others])
        assert few.test.equal(data.test)
        assert (labels != clean).sum() == round(len(labels) / 2)
    else:
        labels = few.train.labels
        samples, all_samples = (vars(each.train)[next(iter(vars(each.train)))] for each in (few, data))
        assert all((all_samples == sample).flatten(1).all(1).any() for sample in samples)
        assert few.test is data.test
        assert few.val is data.val
    assert len(labels) == 3 * data.num_classes


def test_files_are_drawn_too(folder):
    data = load_images(f"folder:{folder}").with_labels(2)
    assert data.train.labels.bincount().tolist() == [2, 2, 2]
    pixels, labels = next(data.batches("train", 6))
    assert len(pixels) == len(labels) == 6


@pytest.mark.parametrize(
    ("model", "data"), [("gcn", "citations"), ("resnet8", "digits"), ("pointnet_t", "solids")], ids=lambda text: text
)
def test_a_run_trains_on_them_whatever_the_regularizer(model, data):
    def labels(regularizer, seed):
        recipe = get_recipe(None, model, data, regularizer, labels_per_class=2, label_noise=0.25, seed=seed)
        task = find_domain(recipe.domain).task(recipe)
        return task.graph.labels[task.graph.train].tolist() if data == "citations" else task.data.train.labels.tolist()

    found = labels("none", 1)
    assert found == labels("hs-mhe", 1)
    assert found != labels("none", 2)
    recipe = get_recipe(None, model, data, "none")
    assert recipe.replace(labels_per_class=2).digest != recipe.digest
    assert recipe.replace(labels_per_class=2).label.endswith("+labels_per_class=2")
    with pytest.raises(UsageError, match="label_noise"):
        recipe.replace(label_noise=1.5)

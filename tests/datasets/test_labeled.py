"""Sets built from arrays: checked, with validation samples held out where there are none."""

import numpy as np
import pytest
import torch

from comhe.datasets import Clouds, DataError, Graph, Images

PIXELS, LABELS = np.zeros((20, 4, 5, 3), np.uint8), np.arange(20) % 2
POINTS = np.random.default_rng(0).normal(size=(20, 8, 6))


def test_arrays_and_tensors_give_the_same_set():
    arrays = Images.from_arrays("a", (PIXELS, LABELS), (PIXELS, LABELS), classes=("x", "y"))
    both = torch.from_numpy(PIXELS), torch.from_numpy(LABELS)
    tensors = Images.from_arrays("a", both, both, classes=("x", "y"))
    assert repr(arrays) == repr(tensors) == "Images('a', shape=(3, 4, 5), classes=2, train=18, val=2, test=20)"
    assert torch.equal(arrays.val.labels, tensors.val.labels)
    assert arrays.source == "10% of each class of train held out to validate"
    own = Images.from_arrays("a", (PIXELS, LABELS), (PIXELS, LABELS), (PIXELS[:4], LABELS[:4]))
    assert (len(own.train), len(own.val), own.classes) == (20, 4, ("0", "1"))


def test_clouds_have_their_columns():
    clouds = Clouds.from_arrays("a", (POINTS, LABELS), (POINTS, LABELS), up=2)
    assert (clouds.num_points, clouds.num_channels, clouds.up) == (8, 6, 2)
    assert clouds.train.points.dtype == torch.float32
    assert repr(clouds.train) == "CloudSplit(18 samples)"


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ((PIXELS.astype(float), LABELS), (PIXELS, LABELS), "pixels are float64"),
        ((PIXELS[..., :1], LABELS), (PIXELS[..., :1], LABELS), r"pixels are uint8 \[18, 4, 5, 1\]"),
        ((PIXELS, LABELS), (PIXELS[:, :3], LABELS), r"samples of test are \[20, 3, 5, 3\]"),
        ((PIXELS, LABELS[:-1]), (PIXELS, LABELS), r"train: labels are int64 \[19\]"),
        ((PIXELS, LABELS * 1.0), (PIXELS, LABELS), "train: labels are float64"),
        ((PIXELS, LABELS), (PIXELS, LABELS + 1), r"test: label 2 is outside 0\.\.1"),
        ((PIXELS, LABELS - 1), (PIXELS, LABELS), "train: label -1 is outside"),
        ((PIXELS[:2], LABELS[:2]), (PIXELS, LABELS), "no class has two training samples"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(train, test, message):
    with pytest.raises(DataError, match=f"^a: {message}"):
        Images.from_arrays("a", train, test, classes=("x", "y"))


@pytest.mark.parametrize(
    ("samples", "labels", "message"),
    [
        (PIXELS, np.eye(2)[LABELS], r"train: labels are float64 \[20, 2\], not one integer"),
        (PIXELS, np.array(["cat", "dog"])[LABELS], "train: labels are <U3"),
        (None, LABELS, "train: samples must be an array, a tensor or a list of these, not NoneType"),
        ([each[: 2 + i % 2] for i, each in enumerate(PIXELS)], LABELS, "train: samples are not of one size"),
    ],
)
def test_what_is_no_array_of_samples_or_labels(samples, labels, message):
    with pytest.raises(DataError, match=f"^a: {message}"):
        Images.from_arrays("a", (samples, labels), (samples, labels))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": -np.eye(3)}, "a feature is negative"),
        ({"edge_index": [[0, 3], [1, 1]]}, r"edge_index is not \[2, m\] of the node numbers 0\.\.2"),
        ({"labels": [0, 1]}, "labels are"),
        ({"val": [0]}, "not disjoint"),
        ({"test": [3]}, "not disjoint node numbers"),
        ({"val": np.array([False, True])}, r"the mask of val is \[2\], but there are 3 nodes"),
        ({"labels": ["x", "y", "x"]}, "labels are <U1"),
    ],
)
def test_a_graph_that_does_not_fit_is_refused(changes, message):
    parts = {"features": np.eye(3), "edge_index": [[0, 1], [1, 2]], "labels": [0, 1, 0]}
    splits = {"train": [0], "val": np.array([False, True, False]), "test": [2]}
    assert Graph.from_arrays("a", **parts, **splits).val.tolist() == [1]
    sparse = Graph.from_arrays("a", **{**parts, "features": torch.eye(3).to_sparse()}, **splits)
    assert sparse.features.to_dense().equal(torch.eye(3))
    with pytest.raises(DataError, match=f"^a: .*{message}"):
        Graph.from_arrays("a", **{**parts, **splits, **changes})

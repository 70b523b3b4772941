"""Splits of own graphs: as given in any of the usual forms, or drawn by class from a seed."""

import numpy as np
import pytest

from comhe.datasets.graphs.splits import fractional_split, read_split
from comhe.errors import DataError

LABELS = np.array([0, 1] * 10 + [-1] * 5)


def test_a_random_split_takes_shares_of_each_class_and_no_unlabeled_node():
    train, val, test = fractional_split(LABELS, 3, "g")
    assert [np.bincount(LABELS[nodes]).tolist() for nodes in (train, val, test)] == [[6, 6], [2, 2], [2, 2]]
    assert len(np.unique(np.concatenate([train, val, test]))) == 20
    assert all(map(np.array_equal, fractional_split(LABELS, 3, "g"), (train, val, test)))
    assert not np.array_equal(fractional_split(LABELS, 4, "g")[0], train)
    with pytest.raises(DataError, match="no class has three labeled nodes"):
        fractional_split(np.array([0, 1, 2, -1]), 0, "g")


def mask(*nodes):
    return np.isin(np.arange(25), nodes)


@pytest.mark.parametrize(
    "form",
    [
        lambda nodes: mask(*nodes),
        lambda nodes: mask(*nodes).astype(np.uint8),
        lambda nodes: np.array(nodes[::-1]),
        lambda nodes: np.array([nodes]),
        lambda nodes: np.array(nodes)[:, None],
        lambda nodes: np.stack([mask(*nodes), mask(19)], 1),
        lambda nodes: np.stack([mask(*nodes), mask(19)], 0),
        lambda nodes: mask(*nodes)[:, None],
    ],
)
@pytest.mark.filterwarnings("ignore:g. has 2 splits, of which the first is used; split=1 is the second")
def test_masks_and_node_numbers_are_one(form):
    given = {"train": form([0, 1, 2]), "val": form([5, 6]), "test": form([9, 10])}
    split, words = read_split(given, LABELS, None, "g")
    assert [nodes.tolist() for nodes in split] == [[0, 1, 2], [5, 6], [9, 10]]
    several = np.stack([mask(0)] * 2).shape in (np.shape(given["val"]), np.shape(given["val"])[::-1])
    assert words == ("its own split, number 0 of 0..1" if several else "its own split")
    assert "random3" in read_split(given, LABELS, 3, "g")[1]


@pytest.mark.parametrize("axis", [0, 1])
def test_one_of_several_splits_is_chosen_by_its_number(axis):
    given = {name: np.stack([mask(3 * i + j) for i in range(4)], axis) for j, name in enumerate(("train", "val"))}
    given["test"] = mask(19)  # one for all, as WikiCS has it
    for number in range(4):
        split, words = read_split(given, LABELS, None, "g", number)
        assert [nodes.tolist() for nodes in split] == [[3 * number], [3 * number + 1], [19]]
        assert words == f"its own split, number {number} of 0..3"
    with pytest.warns(UserWarning, match="graph:a.npz: has 4 splits, of which the first is used; graph-split1:PATH is"):
        read_split(given, LABELS, None, "graph:a.npz")
    with pytest.raises(DataError, match="g: has the splits 0 to 3, but not 4"):
        read_split(given, LABELS, None, "g", 4)
    with pytest.raises(DataError, match="g: has no split, so none of number 0"):
        read_split({}, LABELS, None, "g", 0)
    with pytest.raises(DataError, match="g: its masks are of 2 and of 4 splits"):
        read_split(given | {"test": np.stack([mask(19)] * 2, axis)}, LABELS, None, "g")


def test_val_without_test_tests_and_a_tenth_of_train_validates():
    (train, val, test), words = read_split({"train": mask(*range(16)), "val": mask(18, 19)}, LABELS, None, "g")
    assert (len(train), len(val), test.tolist()) == (14, 2, [18, 19])
    assert words == "its own split, its val tests, 10 % of train held out"
    assert read_split({}, LABELS, None, "g")[1].startswith("random0 split of 60")


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"train": mask(0)}, "a split without test"),
        ({"val": mask(0)}, "a split without train"),
        ({"train": mask(0), "val": mask(1), "test": mask(22)}, "1 of the 1 nodes of test have no label"),
        ({"train": mask(0), "val": mask(), "test": mask(1)}, "val has no nodes"),
        (
            {"train": np.array([0, 25]), "val": mask(1), "test": mask(2)},
            r"train has the node 25, which is not one of 0\.\.24",
        ),
        ({"train": np.array([0.5]), "val": mask(1), "test": mask(2)}, "neither a mask bool"),
        ({"train": np.ones(7, bool), "val": mask(1), "test": mask(2)}, r"neither a mask bool \[25\] nor"),
    ],
)
def test_faults_of_splits_are_one_line(given, fault):
    with pytest.raises(DataError, match=rf"^g.*{fault}"):
        read_split(given, LABELS, None, "g")

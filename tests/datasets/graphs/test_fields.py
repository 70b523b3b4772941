"""Arrays under the names and in the forms that others give them."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from comhe.datasets import Graph
from comhe.datasets.graphs.fields import as_array, check_edges, check_features, check_labels, names_of, rename, unused
from comhe.errors import ComheWarning, DataError

X, E, Y = np.eye(4), np.array([[0, 1], [1, 2]]), np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    "names",
    [
        ("x", "edge_index", "y"),
        ("feat", "edges", "labels"),
        ("node_feat", "edge", "label"),
        ("attr", "edge_indices", "y"),
    ],
)
def test_the_names_of_others(names):
    found = rename(dict(zip(names, (X, E, Y), strict=True)) | {"idx_train": [0], "extra": "words"}, "g")
    assert found.keys() == {"x", "edge_index", "y", "train"}
    with pytest.raises(DataError, match="g: has both x and features"):
        rename({"x": X, "features": X}, "g")
    with pytest.raises(DataError, match="g: has no x or features, no y or labels; of a graph without features"):
        rename({"edge_index": E}, "g")
    with pytest.raises(DataError, match=r"g: has no edge_index or edges, no y or labels, but 'A', 'Y'$"):
        rename({"x": X, "A": E, "Y": Y}, "g")


@pytest.mark.parametrize("kind", ["dense", "scipy", "csr", "coo"])
def test_an_adjacency_becomes_edges(kind):
    dense = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0.0]])
    forms = {
        "dense": dense,
        "scipy": csr_matrix(dense),
        "csr": torch.tensor(dense).to_sparse_csr(),
        "coo": torch.tensor(dense).to_sparse(),
    }
    found = rename({"x": X[:3], "y": Y[:3], "adj": forms[kind]}, "g")
    assert found["edge_index"].tolist() == [[0, 1, 2], [1, 2, 0]]
    assert "edge_weight" not in found
    turned = rename({"x": X[:3], "y": Y[:3], "adj_t": forms[kind]}, "g")["edge_index"]
    assert set(map(tuple, turned.T.tolist())) == {(1, 0), (2, 1), (0, 2)}
    assert rename({"x": X[:3], "y": Y[:3], "adj": 2 * dense}, "g")["edge_weight"].tolist() == [2, 2, 2]


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
def test_node_numbers_may_be_floats_unless_they_are_rounded(kind):
    found = rename({"x": X, "edge_index": E.astype(kind), "y": Y, "train": np.array([3.0], kind)}, "g")
    assert (found["edge_index"].dtype, found["edge_index"].tolist()) == (np.int64, E.tolist())
    assert (found["train"].dtype, found["train"].tolist()) == (np.int64, [3])
    for bad in (0.5, np.nan, 2.0 / np.finfo(kind).eps):
        edges = rename({"x": X, "edge_index": np.array([[0], [bad]], kind), "y": Y}, "g")["edge_index"]
        assert edges.dtype == kind
        with pytest.raises(DataError, match=r"^g: edge_index is float\d+ \[2, 1\], not node numbers"):
            check_edges(edges, None, 4, "g")


def test_node_numbers_of_half_precision_may_have_been_rounded():
    edges = rename({"x": X, "edge_index": torch.tensor(E).bfloat16(), "y": Y}, "g")["edge_index"]
    with pytest.raises(DataError, match=r"^g: edge_index is float32 \[2, 2\], not node numbers"):
        check_edges(edges, None, 4, "g")


@pytest.mark.parametrize("key", ["y", "edge_index", "edge_weight", "train_mask"])
def test_other_sparse_matrices_are_told(key):
    given = {"x": X, "edge_index": E, "y": Y, key: csr_matrix(np.eye(4))}
    with pytest.raises(
        DataError, match=rf"^g: {key} is a sparse matrix \[4, 4\], as only .*; save it as a dense array"
    ):
        rename(given, "g")


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool])
def test_features_of_any_type_and_layout_are_float32(kind):
    dense = torch.eye(3).to(kind)
    for form in (dense, dense.to_sparse(), csr_matrix(np.eye(3))):
        x = check_features(as_array(form, "x"), "g")
        assert x.dtype == np.float32
        assert (x if isinstance(x, np.ndarray) else x.toarray()).tolist() == np.eye(3).tolist()


@pytest.mark.parametrize(
    "bad", [np.ones(3), np.ones((0, 3)), np.full((2, 2), np.nan), np.full((2, 2), 1e39), np.array([["a"]])]
)
def test_features_that_are_not_are_refused(bad):
    with pytest.raises(DataError, match=r"^g: (x is|a feature)"):
        check_features(bad, "g")


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([0, 2, -1, 1], [0, 2, -1, 1]),
        ([[0], [2], [1], [-7]], [0, 2, 1, -1]),
        ([[0, 2, 1, -7]], [0, 2, 1, -1]),
        ([0.0, 1.0, np.nan, 2.0], [0, 1, -1, 2]),
        ([True, False, True, True], [1, 0, 1, 1]),
        ([[1, 0], [0, 1], [0, 1], [1, 0]], [0, 1, 1, 0]),
        ([[1, 0], [0, 1], [0, 0], [1, 0]], [0, 1, -1, 0]),
        (["b", "a", " ", "b"], [1, 0, -1, 1]),
        (["b", "a", "NA", "null"], [1, 0, -1, -1]),
        (["10", "2", "-1", "0"], [10, 2, -1, 0]),
        (["10", "2", "NA", "<NA>"], [10, 2, -1, -1]),
        (["10.0", "2.0", "-1.0", "0"], [10, 2, -1, 0]),
        (["1.000000e+01", "2.0E+00", "-1.000000e+00", "0.000000e+00"], [10, 2, -1, 0]),
    ],
)
def test_labels_in_many_forms(y, expected):
    labels, classes = check_labels(np.array(y), 4, "g")
    assert (labels.dtype, labels.tolist()) == (np.int64, expected)
    assert classes == (("a", "b") if "a" in np.array(y).ravel().tolist() else ())


def test_a_word_that_may_be_a_class_is_told():
    with pytest.warns(ComheWarning, match="g: 2 of the nodes have None, unknown and count as without a label"):
        assert check_labels(np.array(["mild", "None", "severe", "unknown"]), 4, "g")[0].tolist() == [0, -1, 1, -1]


@pytest.mark.parametrize(
    ("y", "fault"),
    [
        ([[1, 1], [0, 1], [0, 1], [1, 0]], "several labels a node"),
        ([0, 1], r"y is \[2\], but x has 4 nodes"),
        ([0.5, 1, 2, 3], "0.5, which is not the number of a class"),
        ([0, 1, 2, 10**6], "number the classes from 0"),
        ([-1, -1, -1, -1], "no node has a label"),
        ([-1, 1, 1, -1], "number the two classes 0 and 1"),
        (["-1", "1", "1", "-1"], "number the two classes 0 and 1"),
        ([-1.0, 1.0, 1.0, -1.0], "number the two classes 0 and 1"),
    ],
)
def test_labels_that_cannot_be_learned_are_one_line(y, fault):
    with pytest.raises(DataError, match=f"^g: .*{fault}"):
        check_labels(np.array(y), 4, "g")


def test_edges_and_weights():
    pairs = np.array([[0, 1], [1, 2], [2, 0]])
    for form in (np.ones(3), np.ones((3, 1)), np.ones((1, 3))):
        edges, weight = check_edges(pairs, form, 3, "g")
        assert edges.tolist() == pairs.T.tolist()
        assert (weight.dtype, weight.tolist()) == (np.float32, [1, 1, 1])
    assert check_edges(np.zeros((2, 0)), None, 3, "g")[0].shape == (2, 0)
    for bad, w, fault in (
        (np.array([[0, 3], [1, 1]]), None, r"has the node 3, but x has rows for the nodes 0\.\.2"),
        (np.array([[0, -1], [1, 1]]), None, "has the node -1"),
        (np.ones((2, 3)), None, "not node numbers"),
        (pairs, np.ones(2), "not a number for each of the 3 edges"),
        (pairs, -np.ones(3), "negative or not finite"),
    ):
        with pytest.raises(DataError, match=f"^g: .*{fault}"):
            check_edges(bad, w, 3, "g")


def test_names_are_one_for_each_node():
    assert names_of(None, 3, "g") == ()
    assert names_of(torch.tensor([7, 3, 5]), 3, "g") == ("7", "3", "5")
    assert names_of(["b", "a"], 2, "g") == names_of([["b", "a"]], 2, "g") == ("b", "a")


@pytest.mark.parametrize(
    "names", [["a", "b"], [0.0, 1, 2], ["a", "b", "a"], {0: "a"}, ["a", 1, None], [["a"], ["b", "c"], []], "abc"]
)
def test_other_names_are_no_reason_to_refuse_a_graph(names):
    with pytest.warns(UserWarning, match="g: node_names are not used"):
        assert names_of(names, 3, "g") == ()


def test_an_empty_adj_t_turns_no_edges():
    adjacency = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    given = {"x": np.eye(3), "y": np.arange(3), "adj": adjacency}
    plain, both = rename(given, "g"), rename(given | {"adj_t": None}, "g")
    assert both["edge_index"].tolist() == plain["edge_index"].tolist() == [[0, 1], [1, 2]]


def test_what_is_not_used_is_named():
    given = {"features": X, "edge_index": E, "y": Y, "num_nodes": 4, "pos": X, "none": None}
    assert unused(given) == ["pos"]
    assert unused(given | {"edge_attr": X, "adj_t": X}) == [
        "pos",
        "edge_attr (name it edge_weight if it is one)",
        "adj_t (its edges are)",
    ]
    assert unused(given | {"edge_attr": X, "edge_weight": X}) == ["pos", "edge_attr"]
    splits = {"train": [0], "valid": [1], "test": [2]}
    found = rename({"x": X, "adj": np.eye(4), "y": Y, "split_idx": splits}, "g")
    assert [found[split].tolist() for split in ("train", "val", "test")] == [[0], [1], [2]]
    assert unused({"x": X, "adj": np.eye(4), "y": Y, "split_idx": splits}) == []


NAMES = [("train", "val", "test"), ("training", "validation", "testing"), ("Train", "dev", " TEST ")]


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize(
    "form", [list, tuple, np.array, lambda words: np.array(words, dtype=object), lambda w: np.array([w])]
)
def test_a_split_is_a_word_for_each_node(names, form):
    given = {"x": X, "edge_index": E, "y": Y, "split": form([*names, "NA"])}
    found = rename(given, "g")
    assert [found[split].tolist() for split in ("train", "val", "test")] == np.eye(3, 4).astype(bool).tolist()
    assert unused(given) == []
    assert "train" not in rename(given, "g", labeled=False)
    both = given | {"val_idx": [2]}  # masks come first, and the words are told
    assert rename(both, "g")["val"].tolist() == [2]
    assert unused(both) == ["split"]


def test_a_split_of_other_words_or_numbers_is_told():
    given = {"x": X, "edge_index": E, "y": Y}
    with pytest.raises(DataError, match=r"^g: a node's split is train, val, test or empty, not 'both'"):
        rename(given | {"split": ["train", "test", "both", ""]}, "g")
    for other in ([0, 1, 2, 0], np.arange(4), [[0], [1, 2]], []):
        assert unused(given | {"split": other}) == ["split"]
        assert "train" not in rename(given | {"split": other}, "g")


@pytest.mark.parametrize("form", [lambda words: words[:3], lambda words: np.array([words] * 2).T])
def test_a_split_of_another_shape_is_told_under_its_name(form):
    split = form(["train", "val", "test", ""])
    with pytest.raises(DataError, match=r"^g: splits is \[(3|4, 2)\], not a word for each of the 4 nodes$"):
        rename({"x": X, "edge_index": E, "y": Y, "splits": split}, "g")


@pytest.mark.parametrize("value", [0.93, 20, True, np.float32(1), torch.tensor(2), np.array("public"), "public"])
@pytest.mark.parametrize("key", ["train", "Testing", "split", "label", "features", "edges"])
def test_a_single_value_is_none_of_the_arrays(key, value):
    given = {"x": X, "edge_index": E, "y": Y, "idx_train": [0], "idx_val": [1], "idx_test": [2]}
    splits = {"x": X, "edge_index": E, "y": Y, "split_idx": {"train": [0], "testing": [2]}}
    assert rename(splits | {key: value}, "g").keys() == rename(splits, "g").keys()
    assert rename({key: value} | given, "g").keys() == rename(given, "g").keys()
    assert unused({key: value} | given) == [f"{key.lower()} (a single value)"]


@pytest.mark.parametrize(
    ("split", "said"),
    [
        (torch.arange(6), r"torch.int64 \[6\]"),
        (np.eye(6, 3), r"float64 \[6, 3\]"),
        ([np.arange(2), [2, 3], [4]], "a list of list, ndarray"),
        ([{"train": [0]}] * 9, "a list of dict"),
        ([], "a list of nothing"),
        (["train", "val", 0, "test", "", None], "a list of NoneType, int, str"),
        ({"trn": [0], "vld": [1]}, "a dict of 'trn', 'vld'"),
        ({str(i): "train" for i in range(6)}, "a dict of '0', '1', '2', '3', '4' and 1 more"),
    ],
)
def test_no_split_is_drawn_in_place_of_one_that_is_not_understood(split, said):
    given = {"x": np.eye(6), "edge_index": [[0, 1], [1, 0]], "y": [0, 1] * 3, "split": split}
    with pytest.raises(DataError, match=rf"^g: split is {said}; a split is train, val or test for each node, or a"):
        Graph.from_pyg(given, "g")
    assert len(Graph.from_pyg(given | {"split": None}, "g").train) == 2
    for known in ({"seed": 0}, {"labeled": False}):
        with pytest.warns(ComheWarning, match="g: not used: split$"):
            Graph.from_pyg(given, "g", **known)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        *((key, "; a random split is drawn, .*") for key in ("is_Test", "trainNodes", "val.nodes", "train0", "SPLIT1")),
        *((key, "") for key in ("latest", "constraint")),
    ],
)
def test_names_like_those_of_splits_are_told_that_one_is_drawn(key, hint):
    given = {"x": np.eye(6), "edge_index": [[0, 1], [1, 0]], "y": [0, 1] * 3, key: [0, 1]}
    with pytest.warns(ComheWarning, match=f"^g: not used: {key}{hint}$"):
        Graph.from_pyg(given, "g")
    with pytest.warns(ComheWarning, match=f"^g: not used: {key}$"):
        Graph.from_pyg(given | {"train": [0], "val": [1], "test": [2]}, "g")


def test_columns_of_pandas_have_words_as_objects():
    words = np.array(["b", None, float("nan"), "a"], dtype=object)
    found = rename({"x": X, "edge_index": E, "y": words, "split": np.array(["test", None, "", "train"], object)}, "g")
    assert check_labels(found["y"], 4, "g")[0].tolist() == [1, -1, -1, 0]
    assert (found["train"].tolist(), found["test"].tolist()) == ([False] * 3 + [True], [True] + [False] * 3)
    assert names_of(np.array(["b", "a"], object), 2, "g") == ("b", "a")
    for other in (["b", 1, "c", "a"], [None] * 4, [[], "b", "c", "a"]):
        array = np.empty(4, object)
        array[:] = other
        with pytest.raises(DataError, match=r"^g: y is object \[4\], not numbers"):
            rename({"x": X, "edge_index": E, "y": array}, "g")


def test_rows_of_different_lengths_are_told():
    with pytest.raises(DataError, match=r"^g: x has rows of different lengths"):
        rename({"x": [[1.0], [2.0, 3.0]], "edge_index": E, "y": Y}, "g")


@pytest.mark.parametrize("names", NAMES[:2])
@pytest.mark.parametrize("form", ["{}", "{}_mask", "{}_idx", "{}_indices", "{}_ids", "idx_{}"])
@pytest.mark.parametrize("case", [str, str.capitalize, str.upper])
def test_splits_have_their_usual_names(names, form, case):
    splits = {case(form.format(name)): [i] for i, name in enumerate(names)}
    assert unused({"split": splits}) == []
    given = {"x": X, "edge_index": E, "y": Y} | splits
    assert [rename(given, "g")[split].tolist() for split in ("train", "val", "test")] == [[0], [1], [2]]
    assert unused(given) == []


@pytest.mark.parametrize("form", [np.array, csr_matrix])
def test_a_feature_that_is_missing_names_its_node(form):
    x = np.array([[1.0, 0.0], [0.0, 0.0], [2.0, np.nan]])
    with pytest.raises(DataError, match="g: a feature of node 2 is not finite in float32; give numbers"):
        check_features(form(x), "g")

"""``.npz`` files: arrays and CSR matrices by name, and nothing that is pickled or larger than it says."""

import zipfile

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from comhe.datasets import load_graph
from comhe.datasets.graphs.npz import read_npz
from comhe.errors import DataError

DENSE = np.array([[0, 2.0, 0], [0, 0, 0], [1, 0, 3]])


def csr(name, separator="_", **changes):
    matrix = csr_matrix(DENSE)
    parts = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr, "shape": matrix.shape} | changes
    return {f"{name}{separator}{part}": value for part, value in parts.items() if value is not None}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("separator", "_.")
def test_arrays_and_matrices(tmp_path, save, separator):
    save(tmp_path / "g.npz", y=np.array([0, 1, 1]), words=np.array(["a", "b"]), **csr("attr", separator))
    found = read_npz(tmp_path / "g.npz")
    assert found.keys() == {"y", "words", "attr"}
    assert found["y"].tolist() == [0, 1, 1]
    assert found["attr"].toarray().tolist() == DENSE.tolist()


def test_pickles_that_no_graph_needs_are_not_read_but_told(tmp_path):
    """As in the published files of citation networks, which have names of nodes and classes."""
    others = {"idx_to_node": np.array({0: "a"}, dtype=object), "meta_data": np.array([{}], dtype=object)}
    others["node_names"] = np.array(["a", "b", "c"], dtype=object)
    arrays = csr("attr_matrix") | csr("adj_matrix") | {"labels": [0, 1, 1], "train": [0], "val": [1], "test": [2]}
    np.savez(tmp_path / "g.npz", **arrays, **others)
    with pytest.warns(UserWarning, match=r"g\.npz: not used: idx_to_node, meta_data, node_names .words are saved by"):
        graph = load_graph(f"graph-undirected:{tmp_path / 'g.npz'}")
    assert graph.features.to_dense().tolist() == DENSE.tolist()
    for name in ("y", "edge_index", "split_idx", "x_data"):
        np.savez(tmp_path / "g.npz", **{name: np.array([{}], dtype=object)})
        with pytest.raises(
            DataError, match=rf"'{name}\.npy' is object .* matrix as .*{name}_indptr.* words by .astype"
        ):
            read_npz(tmp_path / "g.npz")


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        (csr("x", shape=None), "'x' lacks shape of a CSR matrix"),
        (csr("x", indices=np.array([1, 0, 9])), r"a column outside 0\.\.2"),
        (csr("x", indptr=np.array([0, 1, 0, 3])), "do not fit its shape"),
        (csr("x", indptr=np.array([0, 1, 3])), "do not fit its shape"),
        (csr("x", data=np.ones(2)), "is not a CSR matrix of numbers"),
        ({"x": np.array([{}], dtype=object)}, "'x.npy' is object"),
    ],
)
def test_what_is_not_sound_is_one_line(tmp_path, arrays, fault):
    np.savez(tmp_path / "g.npz", **arrays)
    with pytest.raises(DataError, match=rf"g\.npz: .*{fault}"):
        read_npz(tmp_path / "g.npz")


@pytest.mark.parametrize("other", ["x_shape", "y_data", "label_indices", "edge_data"])
def test_arrays_that_are_called_like_parts_of_a_matrix(tmp_path, other):
    splits = {"train_indices": [0], "val_indices": [1], "test_indices": [2]}
    arrays = {"x": DENSE, "edge_indices": [[0, 1], [1, 0]], "y": [0, 0, 0], other: np.ones(2)}
    np.savez(tmp_path / "g.npz", **arrays, **splits)
    with pytest.warns(UserWarning, match=rf"g\.npz: not used: {other}$"):
        graph = load_graph(f"graph:{tmp_path / 'g.npz'}")
    assert [part.tolist() for part in (graph.train, graph.val, graph.test)] == [[0], [1], [2]]


def test_masks_in_capitals_are_read_and_other_names_are_not(tmp_path):
    np.savez(tmp_path / "g.npz", Train_Mask=[True], Y=np.array([{}], dtype=object))
    assert read_npz(tmp_path / "g.npz") == {"Train_Mask": [True], "Y": "not read"}


def test_files_that_are_none_or_claim_too_much(tmp_path):
    path = tmp_path / "g.npz"
    for data, fault in ((b"", "an empty file"), (b"<html>", "a web page"), (b"not a zip file", "File is not a zip")):
        path.write_bytes(data)
        with pytest.raises(DataError, match=rf"g\.npz: not an \.npz file, or a damaged one \({fault}"):
            read_npz(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(1 << 27))
    with pytest.raises(DataError, match=r"'x\.npy' claims 134,217,728 bytes of .*; store sparse features as CSR"):
        read_npz(path)
    with pytest.raises(DataError, match="no such file"):
        read_npz(tmp_path / "other.npz")

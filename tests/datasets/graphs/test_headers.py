"""First rows that may be headers, and first columns that may be ids: what other rows and tables say of them."""

import pytest

from comhe.datasets.graphs.tables import read_tables
from comhe.errors import DataError

from .conftest import PLAIN, indexed, write

WIDE = "0,1,2\n1,0,0\n0,1,0\n1,1,0\n"  # what pandas writes of an array of three nodes, with to_csv(index=False)
NARROW = "0,1\n1,0\n0,1\n1,1\n"
RING = "0,1\n0,1\n1,0\n1,2\n2,1\n"  # a header, and both directions of two edges


@pytest.mark.parametrize("features", [WIDE, NARROW, "0,1\n1.0,0\n0.5,1\n0.0,1\n"])
@pytest.mark.parametrize("labels", ["0\n0\n1\n0\n", "label\n0\n1\n0\n", "0\n1\n0\n", "0,1\n0,0\n2,0\n1,1\n"])
@pytest.mark.parametrize("edges", [RING, "source,target\n0,1\n1,0\n1,2\n2,1\n"])
def test_headers_that_pandas_numbers(tmp_path, features, labels, edges):
    write(tmp_path, {"features.csv": features, "labels.csv": labels, "edges.csv": edges})
    headless = labels == "0\n1\n0\n"
    sure = features != NARROW or labels.startswith("label") or headless
    if not sure or (headless and edges == RING):
        fault = r"edges\.csv: its first row, 0,1, may be an edge" if sure else r"features\.csv: .*, may be a node"
        with pytest.raises(DataError, match=f"{fault} or a header; write (source,target|a,b) above it if it is"):
            read_tables(tmp_path)
        return
    found = read_tables(tmp_path)
    assert len(found["x"]) == 3
    assert found["x"][0].tolist()[:2] == [1, 0]
    assert found["y"].tolist() == ["0", "1", "0"]
    assert found["edge_index"].tolist() == [[0, 1, 1, 2], [1, 0, 2, 1]]


@pytest.mark.parametrize(
    ("features", "labels", "edges"),
    [
        ("0,1\n1,0\n1,1\n", "label\n0\n1\n0\n", "0,1\n1,2\n"),  # as many labels as rows
        ("0,1\n1,0\n1,1\n", "0\n1\n0\n", "0,1\n1,0\n1,2\n2,1\n"),  # edges of the nodes 0 to 2
        ("0,1\n1,0\n1,1\n", "0\n1\n0\n", "u,v\n0,1\n2,1\n"),
        ("a,b\n0,1\n1,0\n1,1\n", "0\n0\n1\n0\n", "0,1\n1,0\n1,2\n2,1\n"),  # one direction would be missing
    ],
)
def test_rows_that_look_like_such_headers(tmp_path, features, labels, edges):
    found = read_tables(write(tmp_path, {"features.csv": features, "labels.csv": labels, "edges.csv": edges}))
    assert found["x"].tolist() == [[0, 1], [1, 0], [1, 1]]
    assert found["y"].tolist() == ["0", "1", "0"]
    assert found["edge_index"][:, 0].tolist() == [0, 1]


def test_numbers_of_rows_are_no_sign_of_a_node(tmp_path):
    files = {"features.csv": NARROW, "labels.csv": "0\n0\n1\n0\n", "edges.csv": indexed("0,1\n0,1\n1,0\n1,2\n2,1\n")}
    with pytest.raises(
        DataError, match=r"features\.csv: its first row, 0,1, may be a node or a header; write a,b above"
    ):
        read_tables(write(tmp_path, files))


def test_edges_that_may_begin_with_a_header_are_not_guessed(tmp_path):
    files = {"features.csv": WIDE, "labels.csv": "0\n0\n1\n0\n", "edges.csv": "0,1\n1,2\n2,0\n"}
    with pytest.raises(
        DataError, match=r"edges\.csv: its first row, 0,1, may be an edge or a header; write source,targ"
    ):
        read_tables(write(tmp_path, files))
    for text in ("source,target\n0,1\n1,2\n2,0\n", "source,target\n1,2\n2,0\n"):
        write(tmp_path, {"edges.csv": text})
        assert read_tables(tmp_path)["edge_index"].shape == (2, text.count("\n") - 1)
    write(
        tmp_path,
        {"features.csv": "id,a\nu,1\nv,2\nw,3\n", "labels.csv": "0,1\nu,0\nv,1\nw,0\n", "edges.csv": "0,1\nu,v\n"},
    )
    found = read_tables(tmp_path)  # no node is called 0
    assert (found["y"].tolist(), found["edge_index"].tolist()) == (["0", "1", "0"], [[0], [1]])


def test_lists_of_a_split_under_a_numbered_header(tmp_path):
    write(tmp_path, PLAIN | {"train.csv": "0\n0\n", "val.csv": "0\n1\n", "test.csv": "0\n2\n"})
    assert [read_tables(tmp_path)[split].tolist() for split in ("train", "val", "test")] == [[0], [1], [2]]
    write(tmp_path, {"val.csv": "1\n", "test.csv": "2\n", "train.csv": "0\n"})
    assert [read_tables(tmp_path)[split].tolist() for split in ("train", "val", "test")] == [[0], [1], [2]]


IDS = [30, 10, 40, 20]  # of rows 0 to 3
SHUFFLED = {
    "features.csv": "paper_id,a,b\n" + "".join(f"{each},{each / 10},0.5\n" for each in IDS),
    "edges.csv": "source,target\n10,20\n20,30\n40,30\n",
    "labels.csv": "paper_id,subject\n10,x\n20,y\n30,x\n40,y\n",
}


@pytest.mark.parametrize("header", ["paper_id", "nid", "user", None])
@pytest.mark.parametrize("label", ["subject", "label"])
def test_ids_under_any_name_are_told_by_the_edges(tmp_path, header, label):
    """The first column is no feature, and labels are those of the nodes that they name."""
    for name, text in SHUFFLED.items():
        text = text.replace("paper_id", header or "").replace("subject", label)
        if header is None and name != "edges.csv":
            text = text.partition("\n")[2]
        write(tmp_path, {name: text})
    with pytest.warns(UserWarning, match=r"features\.csv: its .*column.* is taken for the ids of the nodes"):
        found = read_tables(tmp_path)
    assert found["x"].tolist() == [[3, 0.5], [1, 0.5], [4, 0.5], [2, 0.5]]
    assert found["edge_index"].tolist() == [[1, 3, 2], [3, 0, 0]]
    assert found["y"].tolist() == ["x", "x", "y", "y"]


def test_words_may_be_ids(tmp_path):
    words = {name: text.replace("0,", "0th,").replace("0\n", "0th\n") for name, text in SHUFFLED.items()}
    words["edges.csv"] = words["edges.csv"].replace("source,target", "citing,cited")
    words["features.csv"] = "".join(f"{each}th,{each},1\n" for each in IDS)
    with pytest.warns(UserWarning, match="its first column is taken"):
        found = read_tables(write(tmp_path, words))
    assert found["y"].tolist() == ["x", "x", "y", "y"]


def test_a_feature_is_no_id_where_edges_name_rows(tmp_path, recwarn):
    found = read_tables(write(tmp_path, SHUFFLED | {
        "edges.csv": "source,target\n0,1\n1,2\n2,3\n", "labels.csv": "label\nx\nx\ny\ny\n",
    }))  # fmt: skip
    assert found["x"].tolist() == [[30, 3, 0.5], [10, 1, 0.5], [40, 4, 0.5], [20, 2, 0.5]]
    assert not recwarn.list

"""Folders of CSV files, with and without headers and names of nodes."""

import pytest

from comhe.datasets.graphs.tables import read_tables
from comhe.errors import DataError

from .conftest import PLAIN, indexed, write

NAMED = {
    "edges.csv": "source;target;weight\nb;a;0.5\nc;b;2\n",
    "nodes.csv": 'id,height,label,width,split\na,1,red,0.5,train\n"b",0,blue,-1,valid\nc,2,,2e1,test\n',
}


def test_plain_numbers(tmp_path):
    found = read_tables(write(tmp_path, PLAIN))
    assert found["x"].tolist() == [[1, 0.5], [0, -1], [2, 20]]
    assert found["edge_index"].tolist() == [[0, 1], [1, 2]]
    assert found["y"].tolist() == ["0", "1", "-1"]
    assert not {"edge_weight", "node_names"} & found.keys()
    write(tmp_path, {"split.csv": "node,split\n2,test\n0,train\n"})
    found = read_tables(tmp_path)
    assert found["train_mask"].tolist() == [True, False, False]
    assert found["test_mask"].tolist() == [False, False, True]
    write(tmp_path, {"labels.csv": "1,5\n0,4\n"})  # node and label
    assert read_tables(tmp_path)["y"].tolist() == ["4", "5", ""]


@pytest.mark.filterwarnings("error")
def test_names_of_files_in_another_case_and_with_tabs(tmp_path):
    expected = read_tables(write(tmp_path, PLAIN))
    for name, text in PLAIN.items():
        (tmp_path / name).unlink()
        write(tmp_path, {name.capitalize().replace("csv", "TSV"): text.replace(",", "\t")})
    found = read_tables(tmp_path)
    assert found.keys() == expected.keys()
    assert all((found[name] == expected[name]).all() for name in expected)


def test_files_in_another_case_are_not_mixed_with_others(tmp_path):
    (tmp_path / "split.csv").symlink_to(tmp_path / "nowhere")
    write(tmp_path, PLAIN | {"Split.csv": "train\nval\ntest\n", "edges.tsv": "0\t0\n"})
    with pytest.warns(UserWarning, match=": not used: Split.csv, edges.tsv, split.csv"):
        found = read_tables(tmp_path)
    assert "train_mask" not in found
    assert found["edge_index"].tolist() == [[0, 1], [1, 2]]


def test_names_of_nodes_and_columns(tmp_path):
    found = read_tables(write(tmp_path, NAMED))
    assert found["x"].tolist() == [[1, 0.5], [0, -1], [2, 20]]
    assert found["edge_index"].tolist() == [[1, 2], [0, 1]]
    assert found["edge_weight"].tolist() == [0.5, 2]
    assert found["node_names"].tolist() == ["a", "b", "c"]
    assert found["y"].tolist() == ["red", "blue", ""]
    assert found["val_mask"].tolist() == [False, True, False]


@pytest.mark.parametrize(
    "text", ["target,source\n1,0\n2,1\n", "weight,dst,src\n1,1,0\n1,2,1\n", "u,v\n0,1\n1,2\n", "0,1,1\n1,2,1\n"]
)
def test_columns_of_edges_are_found_by_their_names(tmp_path, text):
    found = read_tables(write(tmp_path, PLAIN | {"edges.csv": text}))
    assert found["edge_index"].tolist() == [[0, 1], [1, 2]]
    assert ("edge_weight" in found) == (len(text.splitlines()[0].split(",")) == 3)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"edges.csv": "0,1\n1,7\n"}, r"edges\.csv: '7' is not a node of the 3 that have features"),
        ({"edges.csv": "0,1\n1,\n"}, r"edges\.csv: '' is not a node of the 3 .*; their numbers are those of the rows"),
        ({"edges.csv": "0,1,2,3\n"}, r"edges\.csv: has 4 columns, not source, target and perhaps weight"),
        ({"edges.csv": "source,target,\n0,1,9\n"}, r"has source, target, unnamed: 2, not source, target and perhaps"),
        ({"edges.csv": "u,v,time\n0,1,9\n"}, r"edges\.csv: has u, v, time, not source, target and"),
        ({"split.csv": "id,train,val\n0,1,0\n1,0,2\n"}, r"split\.csv: val is 0 or 1 for each node, not '2'"),
        ({"train.csv": "id,mask\n0,1\n1,7\n"}, r"train\.csv: mask is 0 or 1 for each node, not '7'"),
        ({"edges.csv": "0,1\n1\n"}, r"edges\.csv: row 2 has 1 cells, the first has 2"),
        ({"edges.csv": ""}, r"edges\.csv: an empty file"),
        ({"features.csv": "1,a\n2,b\n3,c\n"}, r"features\.csv: not a table of numbers"),
        ({"features.csv": "id,f\n1,2\n1,3\n2,0\n"}, r"features\.csv: two rows have the same id"),
        ({"labels.csv": "id,y\n0,a\n1,b\n0,b\n"}, r"labels\.csv: node '0' has two rows, with 'a' and 'b'"),
        ({"split.csv": "id,split\n0,train\n0,test\n"}, r"split\.csv: node '0' has two rows, with 'train' and"),
        ({"features.csv": "id\n0\n1\n2\n"}, r"features\.csv: has no column of features"),
        ({"labels.csv": "0\n1\n"}, r"labels\.csv: has 2 rows, but there are 3 nodes; add a column id"),
        ({"labels.csv": "1,2,3\n1,2,3\n"}, r"labels\.csv: has 3 columns, none of them named y"),
        ({"split.csv": "train\ntest\nboth\n"}, "a node's split is train, val, test or empty, not 'both'"),
    ],
)
def test_faults_name_the_file(tmp_path, change, fault):
    with pytest.raises(DataError, match=fault):
        read_tables(write(tmp_path, PLAIN | change))


def test_missing_files_are_named(tmp_path):
    for name, fault in (
        ("edges.csv", "no edges.csv; a graph is"),
        ("features.csv", "no features"),
        ("labels.csv", "no labels"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        write(folder, {other: text for other, text in PLAIN.items() if other != name})
        with pytest.raises(DataError, match=fault):
            read_tables(folder)
    (tmp_path / "edges.csv" / "edges.csv").write_bytes(b"\x810,1\n")
    with pytest.raises(DataError, match=r"not a text file \(byte 0\); save it as UTF-8"):
        read_tables(tmp_path / "edges.csv")


def test_numbers_of_rows_are_no_feature_and_no_node(tmp_path):
    files = {
        "features.csv": indexed("0,1\n1,0.5\n0,-1\n2,2e1\n"),
        "edges.csv": indexed("source,target\n0,1\n1,2\n"),
        "labels.csv": indexed("label\nred\nblue\nred\n"),
        "train.csv": indexed("0\n2\n"),
        "test.csv": indexed("node\n0\n1\n"),
    }
    found = read_tables(write(tmp_path, files))
    assert found["x"].tolist() == [[1, 0.5], [0, -1], [2, 20]]
    assert found["edge_index"].tolist() == [[0, 1], [1, 2]]
    assert found["y"].tolist() == ["red", "blue", "red"]
    assert (found["train"].tolist(), found["test"].tolist()) == ([2], [0, 1])
    write(tmp_path, {"edges.csv": indexed("0,1\n0,1\n1,2\n")})
    assert read_tables(tmp_path)["edge_index"].tolist() == [[0, 1], [1, 2]]


def test_an_index_of_names_or_of_other_numbers_names_the_nodes(tmp_path):
    files = {
        "features.csv": ",a\n12,1\n10,2\n11,3\n",
        "edges.csv": "10,11\n12,10\n",
        "labels.csv": ",y\n10,0\n11,1\n12,2\n",
    }
    found = read_tables(write(tmp_path, files))
    assert found["x"].tolist() == [[1], [2], [3]]
    assert found["edge_index"].tolist() == [[1, 0], [2, 1]]
    assert found["y"].tolist() == ["2", "0", "1"]
    write(tmp_path, {"labels.csv": ",y\n0,2\n1,0\n2,1\n"})  # numbers of rows, since no node is called so
    assert read_tables(tmp_path)["y"].tolist() == ["2", "0", "1"]


def test_a_last_column_without_a_name_is_like_any_other(tmp_path):
    files = {"features.csv": "a,\n1,2\n3,2\n5,6\n", "labels.csv": "label,\n0,8\n1,8\n0,9\n"}
    with pytest.warns(UserWarning, match=r"not used: unnamed: 1 in labels\.csv$"):
        found = read_tables(write(tmp_path, PLAIN | files))
    assert found["x"].tolist() == [[1, 2], [3, 2], [5, 6]]
    assert found["feature_names"].tolist() == ["a", "unnamed: 1"]
    assert found["y"].tolist() == ["0", "1", "0"]


def test_a_header_of_numbers_and_decimal_commas(tmp_path):
    wide = {"features.csv": "0,1,2,3\n1,0.5,0,0\n0,-1,0,0\n2,2e1,0,0\n"}
    assert read_tables(write(tmp_path, PLAIN | wide))["x"][:, :2].tolist() == [[1, 0.5], [0, -1], [2, 20]]
    write(tmp_path, {"features.csv": "a;b\n1;0,5\n0;-1\n2;2e1\n"})
    assert read_tables(tmp_path)["x"].tolist() == [[1, 0.5], [0, -1], [2, 20]]


def test_lists_of_nodes_are_a_split(tmp_path):
    files = PLAIN | {"train.csv": "2\n0\n", "valid.csv": "id,why\n1,x\n", "test.csv": "1\n"}
    with pytest.warns(UserWarning, match=r"not used: why in valid\.csv$"):
        found = read_tables(write(tmp_path, files))
    assert [found[split].tolist() for split in ("train", "val", "test")] == [[2, 0], [1], [1]]
    for change, fault in (
        ({"train.csv": "7\n"}, r"train\.csv: '7' is not a node"),
        ({"train.csv": "a,b\n1,2\n"}, r"train\.csv: has 2 columns, none of them named id"),
        ({"train.csv": "0\n", "split.csv": "train\ntest\ntest\n"}, r"has both split\.csv and train\.csv"),
        ({"split.csv.gz": ""}, r"split\.csv\.gz: compressed files of a graph are not read; unpack it to split\.csv"),
    ):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        with pytest.raises(DataError, match=fault):
            read_tables(write(folder, files | change))


ROWS = ((1, 0, 0), (0, 1, 0), (0, 0, 1))


def test_splits_have_their_usual_names(tmp_path):
    write(tmp_path, PLAIN | {"training.csv": "2\n", "validation.csv": "1\n", "testing.csv": "0\n"})
    found = read_tables(tmp_path)
    assert [found[split].tolist() for split in ("train", "val", "test")] == [[2], [1], [0]]
    for name in ("training", "validation", "testing"):
        (tmp_path / f"{name}.csv").unlink()
    found = read_tables(write(tmp_path, {"split.csv": "Testing\nvalidation\ntraining\n"}))
    assert [found[f"{split}_mask"].tolist().index(True) for split in ("train", "val", "test")] == [2, 1, 0]


@pytest.mark.parametrize(
    "names", ["train_mask,val_mask,test_mask", "train,valid,test", "training_mask,validation_mask,testing_mask"]
)
@pytest.mark.parametrize("kind", [int, float, bool])
def test_masks_among_the_features_are_the_split(tmp_path, names, kind):
    rows = [f"{i}.5,{','.join(str(kind(flag)) for flag in flags)}" for i, flags in enumerate(ROWS)]
    write(tmp_path, PLAIN | {"features.csv": "\n".join([f"a,{names}", *rows])})
    for labeled in (True, False):
        assert read_tables(tmp_path, labeled)["x"].tolist() == [[0.5], [1.5], [2.5]]
    found = read_tables(tmp_path)
    assert [found[f"{split}_mask"].tolist() for split in ("train", "val", "test")] == [
        [*map(bool, row)] for row in ROWS
    ]
    write(tmp_path, {"split.csv": "train\nval\ntest\n"})
    with pytest.raises(DataError, match=r"features\.csv: has the split in train\w* \.\.\., and so has split\.csv"):
        read_tables(tmp_path)
    (tmp_path / "split.csv").unlink()
    write(tmp_path, {"features.csv": "\n".join([f"a,{names}", rows[0], rows[1], "2.5,2,0,0"])})
    if "mask" in names:
        with pytest.raises(DataError, match=r"features\.csv: train\w*_mask is 0 or 1 for each node, not '2'"):
            read_tables(tmp_path)
    elif kind is not bool:
        assert read_tables(tmp_path)["x"].shape == (3, 4)  # some other counts of these names


@pytest.mark.parametrize("names", ["train,val,test", "train_mask,valid_mask,test_mask"])
@pytest.mark.parametrize("kind", [int, bool])
@pytest.mark.parametrize("ids", [(), (2, 0, 1)])
def test_a_split_may_be_columns_of_masks(tmp_path, names, kind, ids):
    flags = [",".join(str(kind(flag)) for flag in row) for row in ROWS]
    rows = [f"{i},{flags[i]}" for i in ids] or flags
    files = {"features.csv": "a,split\n" + "1,test\n" * 3, "split.csv": "\n".join(["id," * bool(ids) + names, *rows])}
    found = read_tables(write(tmp_path, PLAIN | files))
    assert [found[f"{split}_mask"].tolist().index(True) for split in ("train", "val", "test")] == [0, 1, 2]


@pytest.mark.parametrize("header", ["", "mask\n", "0\n", "id,mask\n"])
@pytest.mark.parametrize("kind", [int, bool])
def test_files_of_a_split_may_be_masks(tmp_path, header, kind):
    files = PLAIN | {"features.csv": "1,0.5\n" * 4, "labels.csv": "0\n1\n" * 2}
    for name, marked in (("train", (0, 3)), ("val", (1,)), ("test", (2,))):
        rows = [f"{i}," * header.startswith("id") + f"{kind(i in marked)}\n" for i in (3, 0, 1, 2)]
        files[f"{name}.csv"] = header + "".join(rows if header.startswith("id") else rows[1:] + rows[:1])
    found = read_tables(write(tmp_path, files))
    assert [found[split].nonzero()[0].tolist() for split in ("train", "val", "test")] == [[0, 3], [1], [2]]


@pytest.mark.parametrize("text", ["id,source,target,weight\n7,0,1,0.5\n", "source,type,target,weight\n0,x,1,0.5\n"])
def test_more_columns_of_edges_are_told(tmp_path, text):
    with pytest.warns(UserWarning, match=r"not used: (id|type) in edges\.csv$"):
        found = read_tables(write(tmp_path, PLAIN | {"edges.csv": text}))
    assert (found["edge_index"].tolist(), found["edge_weight"].tolist()) == ([[0], [1]], [0.5])


def test_one_name_of_a_split_may_be_a_features(tmp_path):
    found = read_tables(write(tmp_path, PLAIN | {"features.csv": 'test,flag\n1,True\n0,FALSE\n2,"true"\n'}))
    assert found["x"].tolist() == [[1, 1], [0, 0], [2, 1]]
    assert "test_mask" not in found


def test_what_is_passed_over_is_named(tmp_path):
    more = {"readme.txt": "", "labels.csv": "year,label\n1999,0\n2000,1\n2001,0\n", ".DS_Store": ""}
    with pytest.warns(UserWarning, match=r": not used: readme\.txt, year in labels\.csv$"):
        read_tables(write(tmp_path, PLAIN | more))


@pytest.mark.parametrize("name", ["masks.csv", "train_idx.csv"])
def test_files_named_like_a_split_are_told_that_one_is_drawn(tmp_path, name):
    write(tmp_path, PLAIN | {name: "0\n"})
    with pytest.warns(
        UserWarning, match=f"not used: {name}; a random split is drawn, so name one of your own split.csv"
    ):
        read_tables(tmp_path)
    with pytest.warns(UserWarning, match=f"not used: {name}$"):
        read_tables(write(tmp_path, {"split.csv": "train\nval\ntest\n"}))


def test_an_unknown_node_is_told_where_ids_come_from(tmp_path):
    with pytest.raises(DataError, match=r"'99' is not a node of the 3 .* unless a column id names them"):
        read_tables(write(tmp_path, PLAIN | {"edges.csv": "source,target\n0,99\n"}))


@pytest.mark.parametrize("form", ["{}.0", "{:.18e}"])
def test_whole_numbers_may_be_floats(tmp_path, form):
    """As numpy.savetxt writes all numbers, and pandas those of a column with a gap."""
    pair, one = f"{form},{form}\n", f"{form}\n"
    edges = pair.format(0, 1) + pair.format(1, 2)
    files = PLAIN | {"edges.csv": edges, "train.csv": one.format(2), "test.csv": one.format(0)}
    found = read_tables(write(tmp_path, files))
    assert found["edge_index"].tolist() == [[0, 1], [1, 2]]
    assert (found["train"].tolist(), found["test"].tolist()) == ([2], [0])
    files = {
        "edges.csv": f"0,1\n{edges}",
        "features.csv": "id,a\n" + "".join(f"{form.format(i)},7\n" for i in range(3)),
    }
    files["labels.csv"] = "key,label\n" + "".join(f"{form.format(i)},{i}\n" for i in (2, 0, 1))
    with pytest.warns(UserWarning, match=r"labels\.csv: its column 'key' is taken for the ids of the nodes"):
        found = read_tables(write(tmp_path, files))
    assert found["edge_index"].tolist() == [[0, 1], [1, 2]]
    assert "node_names" not in found
    assert found["y"].tolist() == ["0", "1", "2"]


@pytest.mark.parametrize("ids", ["100000", "1e+05"])
@pytest.mark.parametrize("node", ["100000", "1e+05"])
def test_a_first_row_with_a_number_as_r_writes_it_is_no_header(tmp_path, ids, node):
    files = {"features.csv": f"id,f\n{ids},1\n7,2\n8,3\n", "edges.csv": f"{node},7\n7,{node}\n8,7\n"}
    found = read_tables(write(tmp_path, files | {"labels.csv": f"{node},5\n7,4\n8,4\n"}))
    assert found["edge_index"].tolist() == [[0, 1, 2], [1, 0, 1]]
    assert found["y"].tolist() == ["5", "4", "4"]
    assert found["node_names"].tolist() == ["100000", "7", "8"]


@pytest.mark.parametrize(
    ("ids", "node"), [(("000", "001", "002"), "1"), (("0", "1", "2"), "001"), (("a", "b", "c"), "B")]
)
def test_an_unknown_node_that_is_written_in_another_way_is_told(tmp_path, ids, node):
    files = {"features.csv": "id,f\n" + "".join(f"{each},1\n" for each in ids), "edges.csv": f"{ids[0]},{node}\n"}
    with pytest.raises(
        DataError, match=rf"edges\.csv: '{node}' is not .*; '{ids[1]}' is, so write both in the same way$"
    ):
        read_tables(write(tmp_path, PLAIN | files))


RING = [(i, (i + 1) % 6) for i in range(6)]
CELLS = {
    "features.csv": "nr,f\n" + "".join(f"{i},{i}.5\n" for i in (3, 1, 5, 0, 2, 4)),
    "edges.csv": "source,target\n" + "".join(f"{a}.0,{b}.0\n" for a, b in RING),
    "labels.csv": "nr,label\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in (3, 1, 5, 0, 2, 4)),
}


@pytest.mark.parametrize("changed", ["edges.csv", "features.csv"])
def test_ids_may_be_floats_in_one_table_and_integers_in_another(tmp_path, changed):
    """Then a column is known as ids as well: else edges would be those of other nodes."""
    files = dict(CELLS)
    if changed == "features.csv":
        files["edges.csv"] = files["edges.csv"].replace(".0", "")
        files["features.csv"] = "nr,f\n" + "".join(f"{i}.0,{i}.5\n" for i in (3, 1, 5, 0, 2, 4))
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.warns(UserWarning, match="nr"):
        found = read_tables(tmp_path)
    assert found["x"].ravel().tolist() == [3.5, 1.5, 5.5, 0.5, 2.5, 4.5]
    order = [3, 1, 5, 0, 2, 4]
    assert found["edge_index"].T.tolist() == [[order.index(a), order.index(b)] for a, b in RING]
    assert found["y"].tolist() == ["b", "b", "b", "a", "a", "a"]


def test_labels_below_a_header_of_pandas_may_be_floats(tmp_path):
    (tmp_path / "features.csv").write_text("a,b\n" + "".join(f"{i}.5,1\n" for i in range(6)))
    (tmp_path / "edges.csv").write_text("source,target\n" + "".join(f"{a},{b}\n" for a, b in RING))
    (tmp_path / "labels.csv").write_text("0,1\n1.0,1.0\n2.0,0.0\n3.0,1.0\n4.0,0.0\n5.0,0.0\n")
    assert read_tables(tmp_path)["y"].tolist() == ["", "1.0", "0.0", "1.0", "0.0", "0.0"]
    (tmp_path / "labels.csv").write_text("id,label\n0.0,0\n0.0,1\n1.0,0\n")
    with pytest.raises(DataError, match=r"node '0.0' has two rows, with '0' and '1'"):
        read_tables(tmp_path)


def test_a_comma_and_a_tab_separate_cells(tmp_path):
    (tmp_path / "features.csv").write_text("a,\tb\n" + "".join(f"{i}.5,\t1\n" for i in range(6)))
    (tmp_path / "edges.csv").write_text("source,\ttarget\n" + "".join(f"{a},\t{b}\n" for a, b in RING))
    (tmp_path / "labels.csv").write_text("label\n" + "a\nb\n" * 3)
    assert read_tables(tmp_path)["edge_index"].T.tolist() == [list(edge) for edge in RING]

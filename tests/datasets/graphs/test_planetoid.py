"""From the eight files to arrays: on a tiny set written here, and on the real ones where they are."""

import pickle
import random
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from comhe.datasets import AlteredDataWarning, DataError, MissingDataError, data_root, load_graph
from comhe.datasets.graphs import planetoid
from comhe.datasets.graphs.planetoid import SETS, parse_planetoid

from ..conftest import as_bytes, python2, tiny_parts
from .test_graph import check


def parse(parts=None, dump=python2):
    return parse_planetoid(as_bytes(parts or tiny_parts(), dump), Path("raw/ind.tiny"), validation=4)


@pytest.mark.parametrize("dump", [python2, lambda value: pickle.dumps(value, 2), lambda value: pickle.dumps(value, 4)])
def test_tiny(dump):
    parts, result = tiny_parts(), parse(dump=dump)
    allx, tx = parts["allx"].toarray(), parts["tx"].toarray()
    # Node test.index[i] has row i of tx, and node 10, which it leaves out, has nothing.
    expected = np.concatenate([allx, tx[[1]], np.zeros((1, 5)), tx[[2]], tx[[0]]])
    assert (result.counts.toarray() == expected).all()
    assert result.labels.tolist() == [0, 1, 2] * 3 + [1, 0, 2, 0]
    assert np.flatnonzero(~result.labeled).tolist() == [10]
    assert (result.train.tolist(), result.val.tolist(), result.test.tolist()) == ([0, 1, 2], [3, 4, 5, 6], [9, 11, 12])


def test_graph_of_tiny(tiny):
    graph = load_graph("cora", tiny.parents[1])
    check(graph)
    ring = {(i, (i + 1) % 13) for i in range(13)} | {(0, 5)}
    assert {tuple(edge) for edge in graph.edge_index.T.tolist()} == ring | {(b, a) for a, b in ring}
    assert load_graph("cora-full", tiny.parents[1]).train.tolist() == [0, 1, 2, 7, 8, 10]


def changed(part, value):
    return tiny_parts() | {part: value}


DISAGREEING = {
    "x": csr_matrix(np.ones((3, 5), dtype=np.float32)),
    "y": np.eye(3, dtype=np.int32)[[0, 1, 1]],
    "tx": csr_matrix(np.ones((2, 5), dtype=np.float32)),
    "ty": np.eye(4, dtype=np.int32)[[0, 1, 2]],
    "allx": csr_matrix(np.ones((9, 6), dtype=np.float32)),
    "ally": np.eye(3, dtype=np.int32)[[0, 1, 2, 0]],
    "graph": {node: [] for node in range(12)},
    "test.index": b"12\n9\n10\n11\n",
}
INVALID = [
    ("tx", csr_matrix(np.array([[np.nan] * 5] * 3))),
    ("tx", csr_matrix(np.array([[np.inf] * 5] * 3))),
    ("tx", csr_matrix(-np.ones((3, 5)))),
    ("tx", np.ones((3, 5))),
    ("ty", np.ones((3, 3), dtype=np.int32)),
    ("ty", np.zeros((3, 0), dtype=np.int32)),
    ("ty", csr_matrix(np.eye(3))),
    ("graph", {node: [13] for node in range(13)}),
    ("graph", {node: [-1] for node in range(13)}),
    ("graph", {node: [True] for node in range(13)}),
    ("graph", dict.fromkeys(range(13), 1)),
    ("graph", {str(node): [] for node in range(13)}),
    ("graph", {}),
    ("test.index", b""),
    ("test.index", b"12\n9\n9\n"),
    ("test.index", b"12\n9\n-11\n"),
    ("test.index", b"12\n9\n99999999999\n"),
    ("test.index", b"12\n9\n\xff\n"),
]


@pytest.mark.parametrize(("part", "value"), [*DISAGREEING.items(), *INVALID], ids=lambda v: v if type(v) is str else "")
def test_disagreeing_and_invalid_files(part, value):
    with pytest.raises(DataError, match=r"raw/ind\.tiny\.[a-z.]+: ") as caught:
        parse(changed(part, value))
    assert "\n" not in str(caught.value)


def test_bit_flips_load_or_are_refused(tiny):
    draw = random.Random(0)
    refused = 0
    for file in sorted(tiny.iterdir()):
        original = file.read_bytes()
        for _ in range(30):
            position, bit = draw.randrange(len(original)), draw.randrange(8)
            flipped = bytearray(original)
            flipped[position] ^= 1 << bit
            file.write_bytes(flipped)
            try:
                with pytest.warns(AlteredDataWarning):
                    check(load_graph("cora", tiny.parents[1]))
            except (DataError, pytest.fail.Exception) as error:
                cause = error if isinstance(error, DataError) else error.__context__
                assert isinstance(cause, DataError), (file.name, position, bit)
                assert "\n" not in str(cause)
                refused += 1
        file.write_bytes(original)
    assert 100 < refused < 240


def test_altered_files_are_named_in_one_warning(tiny):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_graph("cora", tiny.parents[1])
    (tiny / "ind.tiny.graph").write_bytes(python2({node: [] for node in range(13)}))
    (tiny / "ind.tiny.test.index").write_bytes(b"9\n12\n11\n")
    with pytest.warns(AlteredDataWarning, match=r"cora: .*ind\.tiny\.graph, ind\.tiny\.test\.index") as caught:
        load_graph("cora", tiny.parents[1])
    assert len(caught) == 1
    assert caught[0].filename == __file__  # where the user asked, not where the file was read


def test_a_different_set_is_refused(tiny, monkeypatch):
    monkeypatch.setitem(SETS, "cora", replace(SETS["cora"], classes=4))
    with pytest.raises(DataError, match=r"not cora: \(13, 5, 3\)"):
        load_graph("cora", tiny.parents[1])


def test_missing_files_name_the_fix(tiny):
    (tiny / "ind.tiny.tx").unlink()
    with pytest.raises(MissingDataError, match=r"lacks ind\.tiny\.tx; .*--data-root or \$COMHE_DATA") as e:
        load_graph("cora", tiny.parents[1])
    assert str(tiny) in str(e.value)
    assert "\n" not in str(e.value)
    assert not (tiny / "ind.tiny.tx").exists()


def test_missing_files_are_downloaded(tiny):
    mirror = tiny.parents[1] / "mirror"
    tiny.rename(mirror)
    check(load_graph("cora", tiny.parents[1]))
    assert {p.name for p in tiny.iterdir()} == {p.name for p in mirror.iterdir()}


def test_one_long_list_named_often_is_refused(monkeypatch):
    monkeypatch.setattr(planetoid, "MAX_LINKS", 1000)
    with pytest.raises(DataError, match=r"ind\.tiny\.graph: more than 1,000 links"):
        parse(changed("graph", dict.fromkeys(range(13), [0] * 100)))


def test_file_beyond_the_bound_is_not_read(tiny, monkeypatch):
    monkeypatch.setattr(planetoid, "MAX_BYTES", 100)
    with pytest.raises(DataError, match=r"ind\.tiny\.x: larger than 100 bytes"):
        load_graph("cora", tiny.parents[1])


# Directed edges; nodes without features; features that are not 0.
CENSUS = {"cora": (10556, 0, 49216), "citeseer": (9104, 15, 105165), "pubmed": (88648, 0, 988031)}


@pytest.mark.parametrize("name", CENSUS)
def test_census_of_the_real_sets(name):
    spec = SETS[name]
    if not all((data_root() / spec.folder / "raw" / file).exists() for file in spec.files):
        pytest.skip(f"no {spec.folder}/raw in the data root; set $COMHE_DATA to test it")
    edges, empty, words = CENSUS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AlteredDataWarning)  # a copy with fewer digits does as well
        start = time.perf_counter()
        graph = load_graph(name)
        seconds = time.perf_counter() - start
    check(graph)
    assert (graph.num_nodes, graph.num_features, graph.num_classes) == (spec.nodes, spec.features, spec.classes)
    rows = graph.features.crow_indices()
    assert (graph.edge_index.shape[1], int((rows.diff() == 0).sum()), int(rows[-1])) == (edges, empty, words)
    assert (len(graph.train), len(graph.val), len(graph.test)) == (20 * spec.classes, 500, 1000)
    assert graph.labels[graph.train].bincount().tolist() == [20] * spec.classes
    assert seconds < 10  # it takes half a second; a loop over all words would take a minute

"""The pickle reader gives the values that pickle gives, and refuses all that is not needed."""

import os
import pickle
import struct

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from comhe.datasets import DataError
from comhe.datasets.io.unpickle import unpickle

from ..conftest import python2

MATRIX = csr_matrix(np.array([[0, 1.5, 0], [2, 0, 3]], dtype=np.float32))
PICKLERS = [python2, *(lambda value, p=p: pickle.dumps(value, p) for p in (2, 3, 4))]


class Call:
    """Pickles as a call of anything."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("dump", PICKLERS)
@pytest.mark.parametrize("dtype", ["<i4", ">i4", "<f8", "u1", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays(dump, dtype, order):
    array = np.arange(6).astype(dtype).reshape((2, 3), order=order)
    result = unpickle(dump(array), "file")
    assert (result == array).all()
    assert result.dtype.isnative


@pytest.mark.parametrize("dump", PICKLERS)
def test_matrix_and_dictionary(dump):
    assert (unpickle(dump(MATRIX), "file").toarray() == MATRIX.toarray()).all()
    graph = {i: list(range(i)) for i in range(300)}
    assert unpickle(dump(graph), "file") == graph


@pytest.mark.parametrize("dump", PICKLERS)
def test_dictionary_with_arrays(dump):
    array = np.arange(6, dtype=">i4").reshape(2, 3)
    result = unpickle(dump({b"data": array, b"again": array, b"labels": [1, 2]}), "file")
    assert (result[b"data"] == array).all()
    assert result[b"labels"] == [1, 2]
    assert np.shares_memory(result[b"data"], result[b"again"]), "a small file does not become many arrays"


def test_dictionary_with_an_array_without_contents():
    bare = b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    with pytest.raises(DataError, match="file: an array has no contents"):
        unpickle(b"\x80\x02}K\x01" + bare + b"s.", "file")


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("function", [os.system, eval, os.mkdir, getattr, np.load])
def test_a_call_is_refused_by_name_and_not_run(protocol, function, tmp_path):
    marker = tmp_path / "was-here"
    argument = {os.system: f"mkdir {marker}", eval: f"__import__('os').mkdir({str(marker)!r})"}.get(
        function, str(marker)
    )
    with pytest.raises(DataError, match=rf"file: asks for the global '\w+(\.\w+)*\.{function.__name__}'"):
        unpickle(pickle.dumps(Call(function, argument), protocol), "file")
    assert not marker.exists()


def matrix(**changes):
    result = MATRIX.copy()
    result.__dict__.update(changes)
    return result


CRAFTED = {
    "index beyond the columns": matrix(indices=np.array([1, 0, 9], dtype=np.int32)),
    "negative index": matrix(indices=np.array([1, 0, -9], dtype=np.int32)),
    "row pointer beyond the values": matrix(indptr=np.array([0, 1, 10**6], dtype=np.int32)),
    "row pointer falls": matrix(indptr=np.array([0, 5, 3], dtype=np.int32)),
    "row pointer starts late": matrix(indptr=np.array([1, 1, 3], dtype=np.int32)),
    "row pointers too few": matrix(indptr=np.array([0, 3], dtype=np.int32)),
    "huge shape": matrix(_shape=(2, 2**40)),
    "shape of strings": matrix(_shape=("2", "3")),
    "values of two dimensions": matrix(data=np.ones((3, 1), dtype=np.float32)),
    "float indices": matrix(indices=np.array([1.0, 0, 2])),
    "array of objects": np.array([{}, []], dtype=object),
    "array of records": np.zeros(2, dtype=[("a", "i4")]),
    "array of strings": np.array(["a", "b"]),
    "list": [1, 2],
    "set": {1, 2},
    "bare global": list,
    "three dimensions": np.zeros((1, 1, 1)),
    "nested key": {((((),),),): 1},
}


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_contents_are_refused(name):
    with pytest.raises(DataError, match=r"^file: ") as caught:
        unpickle(python2(CRAFTED[name]), "file")
    assert "\n" not in str(caught.value)


CRAFTED_BYTES = {
    "empty": b"",
    "text": b"not a pickle",
    "old protocol": b"(lp0\n.",
    "late protocol": b"\x80\x06}.",
    "stack underflow": b"\x80\x02a.",
    "mark underflow": b"\x80\x02t.",
    "unknown memo": b"\x80\x02h\x05.",
    "huge string": b"\x80\x02X\xff\xff\xff\xffabc.",
    "huge long string": b"\x80\x04\x8e" + b"\xff" * 8 + b".",
    "negative string": b"\x80\x02T\xff\xff\xff\xff.",
    "trailing bytes": b"\x80\x02}.more",
    "deep nesting as key": b"\x80\x02})" + b"\x85" * 60_000 + b"K\x01s.",
    "deep nesting as argument": b"\x80\x02c_codecs\nencode\n)" + b"\x85" * 60_000 + b"\x85R.",
    "endless program": b"\x80\x02" + b"N0" * 600_000 + b".",
    "too many steps": b"\x80\x02" + b"N" * 1_100_000 + b".",
    "encoding bomb": b"\x80\x02}X" + struct.pack("<I", 1000) + b"a" * 1000 + b"q\x000"
    b"c_codecs\nencode\n(h\x00X\x06\x00\x00\x00latin1tR" * 5 + b".",
    "array without contents": b"\x80\x02cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R.",
}


@pytest.mark.parametrize("name", CRAFTED_BYTES)
def test_crafted_bytes_are_refused(name):
    with pytest.raises(DataError, match=r"^file: "):
        unpickle(CRAFTED_BYTES[name], "file")


@pytest.mark.parametrize("value", [MATRIX, np.eye(3), {0: [1], 1: [0]}], ids=["matrix", "array", "graph"])
def test_every_truncation_is_refused(value):
    data = python2(value)
    for end in range(len(data)):
        with pytest.raises(DataError, match=r"^file: "):
            unpickle(data[:end], "file")

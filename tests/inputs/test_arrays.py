"""Arrays as numpy writes them, and damaged ones."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from comhe.inputs.arrays import Buffers, read_npy, read_npz
from comhe.inputs.pickles import Record, Unreadable, read_pickle


def npy(array, **how):
    buffer = io.BytesIO()
    np.save(buffer, array, **how)
    return buffer.getvalue()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["?", "i1", "u2", "i8", "f2", "f4", "f8", "c8"])
def test_arrays_of_every_type_and_order(kind, protocol):
    for order in "CF":
        for shape in ((), (0,), (2, 3), (2, 1, 3)):
            array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(kind, order=order)
            found = Buffers().array(read_pickle(pickle.dumps(array, protocol)))
            assert found.dtype == array.dtype
            assert np.array_equal(found, array)
            assert np.array_equal(read_npy(npy(array)), array)


def test_bytes_are_made_once():
    buffers, array = Buffers(), np.arange(9)
    both = read_pickle(pickle.dumps([array, array], 4))
    first, second = map(buffers.array, both)
    assert np.shares_memory(first, second)
    assert buffers.array("text") is buffers.array(Record("numpy.core.multiarray.scalar", ())) is None


def test_what_is_not_numbers(tmp_path):
    assert Buffers().array(read_pickle(pickle.dumps(np.array(["a"]), 4))) is None
    assert read_npy(npy(np.array({"a": np.ones(2)}, dtype=object), allow_pickle=True)).keys() == {"a"}
    assert len(read_npy(npy(np.array([{}, {}], dtype=object), allow_pickle=True))) == 2
    with pytest.raises(Unreadable, match="big-endian"):
        Buffers().array(read_pickle(pickle.dumps(np.ones(2, ">f4"), 4)))
    assert read_npy(npy(np.ones(2, ">f4"))).tolist() == [1, 1]
    for data in (npy(np.ones(9))[:-1], npy(np.ones(9))[:20], npy(np.array(["a"])), b"\x93NUMPY\x09\x00"):
        with pytest.raises(Unreadable):
            read_npy(data)
    huge = npy(np.ones(9)).replace(b"(9,)", b"(9999999999999,)"[:16])
    with pytest.raises(Unreadable):
        read_npy(huge)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", npy(np.zeros(1 << 20)))
    with zipfile.ZipFile(tmp_path / "a.npz") as archive, pytest.raises(Unreadable, match="64 times"):
        read_npz(tmp_path / "a.npz", archive)

"""Pickles as inert records."""

import argparse
import collections
import datetime
import os
import pathlib
import pickle

import numpy as np
import pytest

from comhe.inputs.pickles import SCALAR, Record, Unreadable, plain, read_pickle

PLAIN = {"a": [1, -2.5, True, None, 1 << 70], "b": ("x", (), (1, 2), {"c": "é" * 300}), 3: 0.5, "d": [[]] * 3}
OBJECTS = [
    argparse.Namespace(lr=0.1), np.float64(3.0), np.arange(5), pathlib.PurePosixPath("a/b"), {1, 2}, frozenset({3}),
    datetime.datetime(2020, 1, 2), collections.Counter("aab"), os.getcwd, collections.defaultdict(list, a=[1]), 3 + 4j,
]  # fmt: skip


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_themselves(protocol):
    assert read_pickle(pickle.dumps(PLAIN, protocol)) == PLAIN


@pytest.mark.parametrize("protocol", range(6))
def test_objects_are_records_and_do_not_hide_what_is_beside_them(protocol):
    for value in OBJECTS:
        content = read_pickle(pickle.dumps({"before": 1, "it": value, "after": 2}, protocol))
        assert (content["before"], content["after"]) == (1, 2)
        assert type(content["it"]) in (Record, dict)


@pytest.mark.parametrize("protocol", range(6))
def test_ordered_dicts_are_dicts(protocol):
    value = collections.OrderedDict(b=1, a=2)
    value._metadata = {"": {"version": 1}}
    assert list(read_pickle(pickle.dumps(value, protocol)).items()) == [("b", 1), ("a", 2)]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("value", [-3, 0.5, True, "", "träin", np.float16(2), np.uint8(7)])
def test_scalars_are_plain_values(value, protocol):
    record = read_pickle(pickle.dumps(np.asarray(value)[()], protocol))
    for record.name in SCALAR:
        assert plain(record) == value
        assert type(plain(record)) in (int, float, bool, str)
    assert read_pickle(pickle.dumps({np.asarray(value)[()]: 1}, protocol)) == {value: 1}


@pytest.mark.parametrize(
    "args", [(), ("i8", b"\0" * 8), (Record("numpy.dtype", ("i8",)), b"1"), (Record("os.mkdir", ("U1",)), b"a")]
)
@pytest.mark.parametrize("name", SCALAR)
def test_other_records_stay_what_they_are(name, args):
    record = Record(name, args)
    assert plain(record) is record


def test_nothing_is_called_and_nothing_imported(tmp_path):
    class Call:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    record = read_pickle(pickle.dumps(Call()))
    assert record.name.endswith(".mkdir")
    assert record.args == (str(tmp_path / "made"),)
    assert not (tmp_path / "made").exists()
    assert read_pickle(b"cno_such_module\nname\n.").name == "no_such_module.name"


def test_cycles_are_kept():
    loop: list = []
    loop.append(loop)
    found = read_pickle(pickle.dumps(loop))
    assert found[0] is found


@pytest.mark.parametrize(
    "data", [b"", b".", b"N", b"(N.", b"NN.", b"h\x05.", b"\x80\x02X\xff\xff\xff\xff.", b"N(b.", b"garbage"]
)
def test_damage_is_one_line(data):
    with pytest.raises(Unreadable) as error:
        read_pickle(data)
    assert "\n" not in str(error.value)

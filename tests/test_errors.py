"""Checks of arguments, and the ends of their messages."""

from importlib import import_module

import numpy as np
import pytest
from torch import nn

from comhe.datasets import load_graph
from comhe.errors import (
    DataError,
    MissingPackageError,
    UsageError,
    check_at_least,
    check_choice,
    check_count,
    check_dropout,
    did_you_mean,
    first_line,
    needs,
)
from comhe.regularizers import create_regularizer


def test_a_wrong_argument_is_named():
    check_choice("shortcut", "pad", ("pad", "projection"))
    check_at_least("count", 1, 1)
    with pytest.raises(UsageError, match=r"^shortcut must be 'pad' or 'projection', not 'A'$"):
        check_choice("shortcut", "A", ("pad", "projection"))
    for count in (0, float("nan"), None):
        with pytest.raises(UsageError, match=rf"^count must be at least 1, not {count}$"):
            check_at_least("count", count, 1)
    with pytest.raises(UsageError, match=r"^count must be at least 1 and finite, not inf$"):
        check_at_least("count", float("inf"), 1)
    for count in (2.5, 2.0, None, "2"):
        with pytest.raises(UsageError, match=rf"^count must be a whole number of at least 1, not {count!r}$"):
            check_count("count", count, 1)
    with pytest.raises(UsageError, match=r"^count must be at least 2, not 1$"):
        check_count("count", 1, 2)
    check_dropout(0)
    with pytest.raises(UsageError, match=r"^dropout must be in \[0, 1\), not 1$"):
        check_dropout(1)


def test_near_names_are_suggested_and_else_all():
    assert did_you_mean("gcm", ["gcn", "gat"]) == "did you mean gcn?"
    assert did_you_mean("@", ["gcn", "gat"]) == "there are gcn, gat"
    assert did_you_mean("@", []) == "there are none"


@pytest.mark.parametrize(("message", "line"), [("one\ntwo", "one"), ("", "ValueError"), ("\n one \ntwo", "one ")])
def test_the_first_line_of_an_error(message, line):
    assert first_line(ValueError(message)) == line


def test_only_packages_of_others_are_told_as_missing():
    with pytest.raises(MissingPackageError, match=r"^b needs _absent, .* 'comhe\[a\]'$") as caught, needs("a", "b"):
        import_module("_absent.part")
    assert caught.value.name == "_absent"
    with pytest.raises(MissingPackageError, match=r"needs _late"), needs("a", "b", "json", "_late"):
        raise AssertionError("what is missing is told before anything is imported")
    with (
        pytest.raises(MissingPackageError, match=r"^c needs _b, .* 'comhe\[all\]'$"),
        needs("all", "c"),
        needs("a", "b"),
    ):
        import_module("_b")
    for error in (ModuleNotFoundError("a bug", name="comhe.absent"), ImportError("damaged"), ValueError("other")):
        with pytest.raises(type(error), match=str(error)) as other, needs("a", "b"):
            raise error
        assert other.value is error


def test_a_warning_is_at_the_line_that_called_the_package(tmp_path):
    """Not at one of the package, however deep the reason is found."""
    frozen = nn.Linear(4, 3)
    regularizer = create_regularizer("mhe", frozen)
    frozen.requires_grad_(False)
    parts = {"y": [0, 1, 0, 1], "train": [0, 1], "val": [2], "test": [3]}
    np.savez(tmp_path / "own.npz", x=np.eye(4), edge_index=[[0, 1], [1, 2]], **parts)
    small = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3))
    for call, message in (
        (lambda: regularizer(), "mhe is 0: all its layers are frozen"),
        (lambda: create_regularizer("rp-comhe", small), "no layer is projected"),
        (lambda: load_graph(f"graph:{tmp_path / 'own.npz'}"), "every edge goes in one direction"),
    ):
        with pytest.warns(UserWarning, match=message) as found:
            call()
        assert {each.filename for each in found} == {__file__}


def test_a_relative_path_is_told_with_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"im/g.npz: no such file or folder in the current directory, {tmp_path}$"):
        load_graph("graph:im/g.npz")
    with pytest.raises(DataError, match=f"{tmp_path}/g.npz: no such file or folder$"):
        load_graph(f"graph:{tmp_path}/g.npz")

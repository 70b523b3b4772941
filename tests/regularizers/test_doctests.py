"""The examples in the docstrings run."""

import doctest
import importlib
import pkgutil

import pytest

import comhe.regularizers

MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(comhe.regularizers.__path__, "comhe.regularizers.")
    if not {"kernels", "integrations", "lightning", "transformers"} & set(name.split("."))
]


@pytest.mark.parametrize("name", ["comhe.regularizers", *MODULES])
def test_examples(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert not failed


def test_every_public_name_has_an_example():
    documented = set(comhe.regularizers.__all__) - {"Diagnostics", "NoNeuronsError", "NoPenalty"}
    assert [name for name in documented if ">>>" not in getattr(comhe.regularizers, name).__doc__] == []

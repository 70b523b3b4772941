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


def test_every_public_function_has_an_example():
    public = {name: getattr(comhe.regularizers, name) for name in comhe.regularizers.__all__}
    documented = ["Penalty", "Regularizer", *(name for name, value in public.items() if not isinstance(value, type))]
    assert [name for name in documented if ">>>" not in public[name].__doc__] == []

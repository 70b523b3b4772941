"""The examples in the docstrings run and print what they say."""

import doctest
import importlib
import pkgutil

import pytest

import comhe
import comhe.datasets
import comhe.regularizers
import comhe.train
import comhe.zoo

PACKAGES = (comhe, comhe.regularizers, comhe.zoo, comhe.datasets, comhe.train)
OPTIONAL = ("lightning", "transformers", "kernels")  # need a package that is not always there
NAMES = [
    module.name
    for package in PACKAGES
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not any(word in module.name.split(".") for word in OPTIONAL)
]


@pytest.mark.parametrize("name", [*(package.__name__ for package in PACKAGES), *NAMES])
@pytest.mark.usefixtures("registry")
def test_examples(name, tmp_path, monkeypatch):
    module = importlib.import_module(name)
    monkeypatch.chdir(tmp_path)
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    failed, _ = doctest.testmod(module, optionflags=options, report=True)
    assert failed == 0

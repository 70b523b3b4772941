"""Damaged and hostile files: nothing runs, nothing is written elsewhere, memory is bounded, one clear error."""

import pytest

from . import hostile

MODULES = ("cases.datasets.hostile_files", "cases.datasets.graphs.hostile_files", "cases.zoo.hostile_files")


def test_hostile_files(tmp_path, tally):
    hostile.run(MODULES, tmp_path, 10, tally)


@pytest.mark.long
@pytest.mark.parametrize("module", MODULES)
def test_thousands_of_hostile_files(tmp_path, tally, module):
    hostile.run((module,), tmp_path, 300, tally)

"""Damaged and hostile data files: nothing runs, nothing is written elsewhere, memory is bounded, one clear error."""

import pytest

from .. import hostile


def test_hostile_data(tmp_path, tally):
    hostile.run("cases.datasets.hostile_files", tmp_path, 12, tally)


@pytest.mark.long
def test_thousands_of_hostile_data_files(tmp_path, tally):
    hostile.run("cases.datasets.hostile_files", tmp_path, 1000, tally)

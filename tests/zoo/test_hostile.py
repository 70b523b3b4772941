"""Damaged and hostile weights and cards: nothing runs, memory is bounded, one clear error."""

import pytest

from .. import hostile


def test_hostile_weights(tmp_path, tally):
    hostile.run("cases.zoo.hostile_files", tmp_path, 12, tally)


@pytest.mark.long
def test_thousands_of_hostile_weights(tmp_path, tally):
    hostile.run("cases.zoo.hostile_files", tmp_path, 1000, tally)

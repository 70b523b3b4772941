"""Tables on the device: how long they are kept, and what a recording may do with them."""

import pytest
import torch

from comhe.errors import UsageError
from comhe.regularizers.energies import tables

CPU = torch.device("cpu")


@pytest.fixture
def squares():
    made = []

    @tables.device_table
    def squares(count, device):
        made.append(count)
        return torch.arange(count, device=device) ** 2

    squares.made = made
    return squares


@pytest.fixture
def recording(monkeypatch):
    def set_to(value):
        monkeypatch.setattr(tables, "is_recording", lambda device: value)

    return set_to


def test_the_tables_used_last_are_kept(squares, monkeypatch):
    monkeypatch.setattr(tables, "SIZE", 2)
    for count in (1, 2, 1, 3, 1, 2):
        assert len(squares(count, CPU)) == count
    assert squares.made == [1, 2, 3, 2]


def test_a_table_that_a_graph_reads_stays_where_it_is(squares, recording, monkeypatch):
    monkeypatch.setattr(tables, "SIZE", 2)
    before = squares(5, CPU)
    recording(True)
    assert squares(5, CPU) is before
    recording(False)
    for count in range(20):
        squares(count, CPU)
    assert squares(5, CPU) is before
    assert len(squares.recent) == 2


def test_a_table_cannot_be_made_while_a_graph_is_recorded(squares, recording):
    recording(True)
    with pytest.raises(UsageError, match="once before the recording"):
        squares(3, CPU)
    assert squares.made == []


def test_every_table_of_the_package_is_one_of_these():
    from comhe.regularizers import draws
    from comhe.regularizers.energies import batched

    assert isinstance(draws._constants, tables.device_table)
    assert isinstance(batched._scales, tables.device_table)
    pytest.importorskip("triton")
    from comhe.regularizers.energies.kernels import pairs, wide

    assert isinstance(pairs.programs, tables.device_table)
    assert isinstance(wide._programs, tables.device_table)

"""The counting of cases: what is written, when it is not, and the table made of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
COUNTING = "def test_one(tally):\n    tally('a kind', 'an error', 3)\n    tally('a kind', 'no error')\n"


@pytest.mark.parametrize(("tests", "written"), [(COUNTING, True), (COUNTING + "    assert False\n", False)])
def test_counts_of_a_session_that_passes_are_written(tmp_path, tests, written):
    (tmp_path / "conftest.py").write_bytes((TESTS / "conftest.py").read_bytes())
    (tmp_path / "test_it.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tally", "tally.json", "."]
    subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
    assert (tmp_path / "tally.json").exists() == written
    if written:
        assert json.loads((tmp_path / "tally.json").read_text()) == [
            {"kind": "a kind", "outcome": "an error", "cases": 3},
            {"kind": "a kind", "outcome": "no error", "cases": 1},
        ]
        result = subprocess.run(
            [sys.executable, TESTS / "tally_table.py", tmp_path / "tally.json"], capture_output=True, text=True
        )
        assert result.stdout.splitlines()[2:] == ["| a kind | 4 | an error: 3; no error: 1 |"]

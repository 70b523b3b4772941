"""The counting of cases: what is written, when it is not, and the table made of it."""

import importlib.util
import json
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
TESTS = Path(__file__).parent
COUNTING = "def test_one(tally):\n    tally('a kind', 'an error', 3)\n    tally('a kind', 'no error')\n"


@pytest.mark.parametrize("passes", [True, False])
def test_counts_of_a_session_that_passes_are_written(pytester, passes):
    pytester.makeconftest((TESTS / "conftest.py").read_text())
    pytester.makepyfile(COUNTING if passes else COUNTING + "    assert False\n")
    pytester.inline_run("--tally", "tally.json", "-p", "no:hypothesispytest")
    written = pytester.path / "tally.json"
    assert written.exists() == passes
    if passes:
        rows = json.loads(written.read_text())
        assert rows == [
            {"kind": "a kind", "outcome": "an error", "cases": 3},
            {"kind": "a kind", "outcome": "no error", "cases": 1},
        ]
        spec = importlib.util.spec_from_file_location("tally_table", TESTS / "tally_table.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.table(rows).splitlines()[2:] == ["| a kind | 4 | an error: 3; no error: 1 |"]

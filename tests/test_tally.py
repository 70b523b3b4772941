"""The counting of cases: what is written, when it is not, and the table made of it."""

import importlib.util
import json
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
TESTS = Path(__file__).parent
COUNTING = "def test_one(tally):\n    tally('a kind', 'an error', 3)\n    tally('a kind', 'no error')\n"


def table(rows):
    spec = importlib.util.spec_from_file_location("tally_table", TESTS / "tally_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.table(rows)


@pytest.mark.parametrize(("passes", "processes"), [(True, 0), (False, 0), (True, 2)])
def test_counts_of_a_session_that_passes_are_written(pytester, passes, processes):
    pytester.makeconftest((TESTS / "tally.py").read_text())
    pytester.makepyfile(one=COUNTING, two=COUNTING if passes else COUNTING + "    assert False\n")
    words = ["--tally", "tally.json", "-p", "no:hypothesispytest", "one.py", "two.py"]
    if processes:
        pytest.importorskip("xdist")
        pytester.runpytest_subprocess(*words, "-n", str(processes))
    else:
        pytester.inline_run(*words)
    written = pytester.path / "tally.json"
    assert written.exists() == passes
    if passes:
        rows = json.loads(written.read_text())
        assert rows == [
            {"kind": "a kind", "outcome": "an error", "cases": 6},
            {"kind": "a kind", "outcome": "no error", "cases": 2},
        ]
        assert table(rows).splitlines()[2:] == ["| a kind | 8 | an error: 6; no error: 2 |"]


@pytest.mark.parametrize("form", ["suite", "long"])
def test_the_documented_tables_are_those_of_the_committed_counts(form):
    rows = json.loads((TESTS / "trust" / f"{form}.json").read_text())
    assert f"\n\n{table(rows)}\n" in (TESTS / "README.md").read_text()

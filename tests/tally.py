"""Counts of the cases that tests try.

`--tally FILE` writes how many cases of each kind ended in which way; the tables of the documentation that count cases
are made of such a file by `python tests/tally_table.py FILE`.
"""

import json
from collections import Counter

import pytest

COUNTS = pytest.StashKey[Counter]()


def pytest_addoption(parser):
    parser.addoption("--tally", metavar="FILE", help="write what the tests counted, as JSON, if all of them pass")


def pytest_configure(config):
    config.stash[COUNTS] = Counter()


@pytest.fixture
def tally(request):
    """`tally(kind, outcome, count=1)`: so many cases of this kind ended in this way."""
    counts = request.config.stash[COUNTS]

    def count(kind: str, outcome: str, cases: int = 1) -> None:
        counts[kind, outcome] += cases

    return count


def pytest_sessionfinish(session, exitstatus):
    rows = [
        {"kind": kind, "outcome": outcome, "cases": cases}
        for (kind, outcome), cases in sorted(session.config.stash[COUNTS].items())
    ]
    path = session.config.getoption("--tally")
    if hasattr(session.config, "workeroutput"):  # one of pytest-xdist's processes
        session.config.workeroutput["counts"] = rows
    elif path and exitstatus == pytest.ExitCode.OK:  # a table of tests that fail would be worth nothing
        with open(path, "w") as file:
            json.dump(rows, file, indent=1)
            file.write("\n")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    for row in getattr(node, "workeroutput", {}).get("counts", ()):
        node.config.stash[COUNTS][row["kind"], row["outcome"]] += row["cases"]

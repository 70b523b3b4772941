"""What was tried and what happened, counted by the tests themselves.

``make trust`` runs the long forms (marked ``long``) and writes the counts to ``results/trust``, from which the table in
``results/trust.md`` is made; without ``--record FOLDER`` nothing is written.
"""

import csv
from pathlib import Path

import pytest

COLUMNS = ("part", "what", "cases", "what happened")


def pytest_addoption(parser):
    parser.addoption("--record", type=Path, help="folder for the tables of what was tried")
    parser.addoption("--cases", type=int, default=200, help="random cases of each long test")


@pytest.fixture(scope="session")
def tried(request):
    """``tried(part, what, cases, happened)`` takes a line down, when a test has seen it happen."""
    rows = []
    yield lambda *row: rows.append(dict(zip(COLUMNS, row, strict=True)))
    folder = request.config.getoption("--record", None)
    if folder is not None and rows:
        _record(folder, rows)


def _record(folder, rows):
    folder.mkdir(parents=True, exist_ok=True)
    for part in dict.fromkeys(row["part"] for row in rows):
        with (folder / f"{part}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(row for row in rows if row["part"] == part)
    lines = [COLUMNS, ["---"] * len(COLUMNS)]
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="") as file:
            lines += [row.values() for row in csv.DictReader(file)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    (folder.parent / f"{folder.name}.md").write_text(f"# What was tried\n\nWritten by `make trust`.\n\n{table}\n")

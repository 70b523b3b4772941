"""What was tried, as a Markdown table: `python tests/tally_table.py TALLY.json...` (see conftest.py)."""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path


def table(rows: Iterable[dict]) -> str:
    """One line for each kind of case: how many there were, and how they ended, the most frequent end first."""
    ends: dict[str, Counter] = defaultdict(Counter)
    for row in rows:
        ends[row["kind"]][row["outcome"]] += row["cases"]
    lines = ["| what was tried | cases | how they ended |", "|---|---:|---|"]
    for kind, outcomes in sorted(ends.items()):
        ended = "; ".join(f"{outcome}: {cases:,}" for outcome, cases in outcomes.most_common())
        lines.append(f"| {kind} | {outcomes.total():,} | {ended} |")
    return "\n".join(lines)


if __name__ == "__main__":
    files = [json.loads(Path(path).read_text()) for path in sys.argv[1:]]
    print(table(row for rows in files for row in rows))

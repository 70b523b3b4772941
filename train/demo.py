"""``make demo``: one model per domain, with and without CoMHE, on built-in data."""

from __future__ import annotations

import os
import sys
from tempfile import TemporaryDirectory

from .cli import main as comhe

SEEDS = 5


def main() -> int:
    """Runs what a user would type, in a folder that is thrown away."""
    with TemporaryDirectory() as runs:
        words = (
            f"compare --models gcn --data citations --regularizers none,hs-mhe,rp-comhe --seeds {SEEDS} "
            f"--jobs {min(2, os.cpu_count() or 1)} --runs {runs}"
        )
        print(f"$ comhe {words}", flush=True)
        return comhe(words.split())


if __name__ == "__main__":
    sys.exit(main())

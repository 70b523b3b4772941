"""``make demo``: one model per domain, with and without CoMHE, on built-in data."""

import os
import sys
from tempfile import TemporaryDirectory

from .main import main as comhe

COMMANDS = (
    "compare --models gcn --data citations --regularizers none,hs-mhe,rp-comhe --seeds 5",
    "compare --models pointnet --data solids --regularizers none,rp-comhe --seeds 1 --recipe short "
    "--settings epochs=5 points=256",
    "compare --models resnet8 --data glyphs --regularizers none,rp-comhe --seeds 1 --recipe short "
    "--settings epochs=8 batch_size=32 lr=0.3",
)


def main() -> int:
    """Run what a user would type, in a temporary folder."""
    with TemporaryDirectory() as runs:
        for command in COMMANDS:
            argv = f"{command} --jobs {min(2, os.cpu_count() or 1)} --runs {runs}"
            print(f"$ comhe {argv}", flush=True)
            if status := comhe(argv.split()):
                return status
    return 0


if __name__ == "__main__":
    sys.exit(main())

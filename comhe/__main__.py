"""``python -m comhe`` is the command ``comhe``."""

import gc
import sys
from collections.abc import Sequence

from comhe.errors import MissingPackageError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; without the packages that commands need, one line says so."""
    gc.set_threshold(20_000)  # what is imported stays: to look through it again and again takes an eighth of the start
    try:
        from comhe.train.cli.main import main as command
    except MissingPackageError as error:
        print(f"comhe: {error}", file=sys.stderr)
        return 2
    return command(argv)


if __name__ == "__main__":
    sys.exit(main())

"""The command ``comhe``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from signal import SIGINT

from comhe.train.runs.interruption import terminable, torchrun_rank

from .names import data, list_names
from .networks import energy, evaluate, publish
from .tables import compare, report, reproduce
from .train import train

COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train images": lambda words: train("images", words),
    "train points": lambda words: train("points", words),
    "train graphs": lambda words: train("graphs", words),
    "compare": compare,
    "reproduce": reproduce,
    "report": report,
    "evaluate": evaluate,
    "publish": publish,
    "energy": energy,
    "data": data,
    "list": list_names,
}


def main(words: list[str] | None = None) -> int:
    """Run one command; a mistake of the user's is one line on standard error and exit status 2."""
    words = sys.argv[1:] if words is None else words
    for command, function in COMMANDS.items():
        parts = command.split()
        if words[: len(parts)] == parts:
            if torchrun_rank()[1] > 1 and parts[0] != "train":
                print(f"comhe: torchrun is for comhe train, not for comhe {command}", file=sys.stderr)
                return 2
            return guarded(function, words[len(parts) :])
    usage = "usage: comhe COMMAND ... (COMMAND --help tells more)\n" + "\n".join(f"  comhe {name}" for name in COMMANDS)
    asked = bool(words) and words[0] in ("-h", "--help")
    print(usage if asked or not words else f"comhe: no command {' '.join(words[:2])!r}\n{usage}", file=sys.stderr)
    return 0 if asked else 2


def guarded(function: Callable[[list[str]], None], words: list[str]) -> int:
    """Call a command and turn what a user can mend into one line; COMHE_TRACEBACK=1 shows the whole story.

    SIGINT and SIGTERM are one line too, and exit status 130 and 143. One of several ranks says which it is.
    """
    rank, size = torchrun_rank()
    name = f"comhe: rank {rank} of {size}" if size > 1 else "comhe"
    try:
        with terminable():
            function(words)
    except KeyboardInterrupt as stopped:
        print(f"{name}: {str(stopped) or 'stopped'}", file=sys.stderr)
        return 128 + getattr(stopped, "signum", SIGINT)
    except (ValueError, TypeError, OSError, FloatingPointError) as error:
        if os.environ.get("COMHE_TRACEBACK"):
            raise
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

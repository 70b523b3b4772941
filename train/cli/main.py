"""The command ``comhe``."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from signal import SIGINT

import tyro
from tyro.extras import SubcommandApp

from comhe import __version__
from comhe.errors import ComheError, UsageError, did_you_mean
from comhe.train.hardware import set_threads
from comhe.train.plugins import load_plugins
from comhe.train.recipe import domains
from comhe.train.runs.interruption import terminable, torchrun_rank

from .compare import Compare
from .data import Data
from .energy import Energy
from .evaluate import Evaluate
from .list import List
from .options import Command
from .predict import Predict
from .publish import Publish
from .report import Report
from .reproduce import Reproduce
from .train import Train, train_command

DESCRIPTION = """Train networks with and without hyperspherical-energy regularization, and compare them.
`comhe COMMAND --help` tells more about a command, `comhe --version` the version."""
COMMANDS = (Compare, Reproduce, Report, Evaluate, Predict, Publish, Energy, Data, List)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; a mistake of the user's is one line on standard error and 2."""
    return guarded(_run, argv)


def _run(argv: Sequence[str]) -> None:
    if list(argv) == ["--version"]:
        print(f"comhe {__version__}")
        return
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--import", dest="modules", action="append", default=[])
    load_plugins(early.parse_known_args(argv)[0].modules)  # first: they may register what other options name
    command = parse(argv)
    if torchrun_rank()[1] > 1 and not isinstance(command, Train):
        raise UsageError(f"torchrun is for comhe train, not for comhe {argv[0]}")
    set_threads(getattr(command, "threads", None))
    command.run()


def parse(argv: Sequence[str]) -> Command:
    """Return the command that the arguments name; a mistake in them, and ``--help``, raise SystemExit."""
    commands = {command.__name__.lower(): command for command in COMMANDS}
    _check_name(argv[:1], ["train", *commands], "command")
    if list(argv[:1]) == ["train"]:
        _check_name(argv[1:2], domains(), "domain")
    app, train = SubcommandApp(), SubcommandApp()
    for domain in domains():
        options = argv[2:] if list(argv[:2]) == ["train", domain] else ()
        train.command(name=domain)(train_command(domain, options))
    app.command(train, name="train", help=Train.__doc__)
    for name, command in commands.items():
        app.command(name=name)(command)
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
    return app.cli(prog="comhe", description=DESCRIPTION, args=list(argv) or ["--help"], config=config)


def _check_name(argument: Sequence[str], known: Sequence[str], kind: str) -> None:
    if argument and not argument[0].startswith("-") and argument[0] not in known:
        raise UsageError(f"unknown {kind} {argument[0]!r}; {did_you_mean(argument[0], known)}")


def guarded(function: Callable[[Sequence[str]], object], argv: Sequence[str] | None = None) -> int:
    """Call a command; a mistake of the user's, or a signal, becomes one line and an exit status (2, 130, 143)."""
    rank, size = torchrun_rank()
    name = f"comhe: rank {rank} of {size}" if size > 1 else "comhe"
    try:
        with terminable():
            function(sys.argv[1:] if argv is None else argv)
    except SystemExit as parsed:  # the parser has printed what there is to say
        return parsed.code if isinstance(parsed.code, int) else 0
    except KeyboardInterrupt as stopped:
        print(f"{name}: {str(stopped) or 'stopped'}", file=sys.stderr)
        return 128 + getattr(stopped, "signum", SIGINT)
    except ComheError as error:
        if os.environ.get("COMHE_TRACEBACK"):
            raise
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

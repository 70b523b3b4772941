"""The command ``comhe``."""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from signal import SIGINT
from typing import Any, get_type_hints

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
from .demo import Demo
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
COMMANDS = (Demo, Compare, Reproduce, Report, Evaluate, Predict, Publish, Energy, Data, List)


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
    commands: dict[str, type[Command]] = {command.__name__.lower(): command for command in COMMANDS}
    _check_name(argv[:1], ["train", *commands], "command")
    if list(argv[:1]) == ["train"]:
        _check_name(argv[1:2], domains(), "domain")
    app, training, chosen = SubcommandApp(), SubcommandApp(), commands.get(argv[0] if argv else "")
    is_leaf = bool(argv) and (argv[0] in (*commands, "-h", "--help") or (argv[1:2] and argv[1] in domains()))
    for domain in domains():
        is_chosen = list(argv[:2]) == ["train", domain]
        # Flags of a domain that is not asked for would import its networks, which takes seconds for those of graphs.
        of_domain = Train if is_leaf and not is_chosen else train_command(domain, argv[2:] if is_chosen else ())
        training.command(name=domain)(of_domain)
        chosen = of_domain if is_chosen else chosen
    app.command(training, name="train", help=Train.__doc__)
    for name, command in commands.items():
        app.command(name=name)(command)
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
    arguments = list(argv) if chosen is None else switches(argv, chosen)
    return app.cli(prog="comhe", description=DESCRIPTION, args=arguments or ["--help"], config=config)


def switches(argv: Sequence[str], command: type[Command]) -> list[str]:
    """Return the arguments with every ``--flag True`` and ``--flag=false`` of a switch as ``--flag`` and ``--no-flag``.

    Example:
        >>> switches(["--compile", "True", "--nesterov=false", "--swap-head"], train_command("images"))
        ['--compile', '--no-nesterov', '--swap-head']
    """
    hints = get_type_hints(command)
    names = {f"--{name.replace('_', '-')}" for name, hint in hints.items() if hint is bool}
    found, rest = list[str](), list(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        name = name.replace("_", "-")
        if name not in names:
            found.append(word)
            continue
        if not equals and rest and rest[0].lower() in ("true", "false"):
            value = rest.pop(0)
        if value.lower() not in ("true", "false", "") or (equals and not value):
            raise UsageError(f"{name} is given alone, or with True or False, not with {value!r}")
        found.append(name.replace("--", "--no-", 1) if value.lower() == "false" else name)
    return found


def _check_name(argument: Sequence[str], known: Sequence[str], kind: str) -> None:
    if argument and not argument[0].startswith("-") and argument[0] not in known:
        raise UsageError(f"unknown {kind} {argument[0]!r}; {did_you_mean(argument[0], known)}")


def guarded(function: Callable[[Sequence[str]], object], argv: Sequence[str] | None = None) -> int:
    """Call a command; a mistake of the user's, or a signal, becomes one line and an exit status (2, 130, 143)."""
    rank, size = torchrun_rank()
    name = f"comhe: rank {rank} of {size}" if size > 1 else "comhe"
    try:
        with terminable(), warnings.catch_warnings():
            warnings.showwarning = partial(_show_warning, warnings.showwarning, name)
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


def _show_warning(usual: Callable[..., None], name: str, message: Warning | str, *where: Any, **more: Any) -> None:
    """Write a warning of this package in one line, others as usual."""
    ours = {getattr(module, "__file__", "") for key, module in list(sys.modules.items()) if key.startswith("comhe.")}
    if issubclass(where[0], UserWarning) and where[1] in ours:
        print(f"{name}: warning: {' '.join(str(message).split())}", file=sys.stderr)
    else:
        usual(message, *where, **more)


if __name__ == "__main__":
    sys.exit(main())

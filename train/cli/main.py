"""The command ``comhe``."""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from signal import SIGINT
from typing import Any

import tyro

from comhe import __version__
from comhe.errors import ComheError, ComheWarning, UsageError, did_you_mean
from comhe.train.docstrings import first_sentence
from comhe.train.plugins import load_plugins
from comhe.train.runs.interruption import terminable, torchrun_rank

from .arguments import explain, in_flags, normalize
from .compare import Compare
from .completion import Completion
from .data import Data
from .demo import Demo
from .energy import Energy
from .evaluate import Evaluate
from .help import command_help, overview
from .list import List
from .options import Command
from .predict import Predict
from .publish import Publish
from .report import Report
from .reproduce import Reproduce
from .show import Show
from .train import Train, train_command, training_domains

DESCRIPTION = "Train networks with and without hyperspherical-energy regularization, and compare them."
GROUPS: dict[str, tuple[type[Command], ...]] = {
    "train and compare": (Demo, Train, Compare, Reproduce),
    "look at results": (Report, Evaluate, Energy),
    "use networks": (Predict, Publish),
    "what there is": (List, Show, Data, Completion),
}
COMMANDS = tuple(command for group in GROUPS.values() for command in group if command is not Train)
Completion.commands = COMMANDS
EPILOG = """`comhe COMMAND --help` says more about a command, `comhe --version` which version this is.

examples:

  comhe demo
  comhe train graphs --data cora --regularizer rp-comhe
  comhe compare --data cora --regularizers none,hs-mhe,rp-comhe

Tab completes commands and options once your shell has read the output of `comhe completion bash` (or zsh, fish, tcsh):

  source <(comhe completion bash)"""
CONFIG = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; a mistake of the user's is one line on standard error and 2."""
    return guarded(_run, argv)


def _run(argv: Sequence[str]) -> None:
    argv = list(argv)
    if argv == ["--version"]:
        print(f"comhe {__version__}")
        return
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--import", dest="modules", action="append", default=[])
    modules = early.parse_known_args(argv)[0].modules
    if modules or (argv and not _asks_help(argv)):
        load_plugins(modules)  # first: they may register what other options name
    command = parse(argv)
    if torchrun_rank()[1] > 1 and not isinstance(command, Train):
        raise UsageError(f"torchrun is for comhe train, not for comhe {argv[0]}")
    if (threads := getattr(command, "threads", None)) is not None:
        from comhe.train.hardware import set_threads

        set_threads(threads)
    with warnings.catch_warnings():
        show = warnings.showwarning
        warnings.showwarning = lambda message, *rest, **more: show(in_flags(str(message), type(command)), *rest, **more)
        try:
            command.run()
        except ComheError as error:
            explain(error, type(command))
            raise


def parse(argv: Sequence[str]) -> Command:
    """Return the command that the arguments name; ``--help`` and values of another type raise SystemExit."""
    argv = list(argv)
    if argv[:1] == ["help"]:
        argv = [*argv[1:], "--help"]
    commands: dict[str, type[Command]] = {command.__name__.lower(): command for command in COMMANDS}
    name, chosen = " ".join(argv[:1]), commands.get(argv[0] if argv else "")
    rest = argv[1:]
    if chosen is None:
        _check_name(argv[:1], ["train", *commands], "command")
        if argv[:1] != ["train"]:
            if argv and not _asks_help(argv):
                raise UsageError(f"the first word is a command, as in `comhe demo`, not {argv[0]!r}; see comhe --help")
            _leave(_overview())
        known = training_domains()
        _check_name(rest[:1], [*known], "domain")
        if not rest or rest[0] not in known:
            _leave(overview(Train.__doc__ or "", {"domains": known}, TRAIN_EPILOG, "comhe train DOMAIN [OPTIONS]"))
        name, chosen, rest = f"train {rest[0]}", train_command(rest[0], rest[1:]), rest[1:]
    if _asks_help(rest):
        _leave(command_help(name, chosen))
    return tyro.cli(chosen, prog=f"comhe {name}", args=normalize(rest, chosen), config=CONFIG)


TRAIN_EPILOG = """`comhe train DOMAIN --help` lists the options; they are the settings of a recipe, and have its values.

examples:

  comhe train graphs --data cora --regularizer rp-comhe
  comhe train images --recipe paper --help"""


def _overview() -> str:
    groups = {
        title: {command.__name__.lower(): first_sentence(command.__doc__) for command in commands}
        for title, commands in GROUPS.items()
    }
    return overview(DESCRIPTION, groups, EPILOG, "comhe COMMAND [OPTIONS]")


def _asks_help(argv: Sequence[str]) -> bool:
    return any(word in ("-h", "--help") for word in argv) or list(argv[:1]) == ["help"]


def _leave(text: str) -> None:
    print(text)
    raise SystemExit(0)


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
            sys.stdout.flush()
    except SystemExit as parsed:  # the parser has printed what there is to say
        return parsed.code if isinstance(parsed.code, int) else 0
    except KeyboardInterrupt as stopped:
        print(f"{name}: {str(stopped) or 'stopped'}", file=sys.stderr)
        return 128 + getattr(stopped, "signum", SIGINT)
    except BrokenPipeError:  # whoever reads has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it ends
        return 0
    except ComheError as error:
        if os.environ.get("COMHE_TRACEBACK"):
            raise
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    return 0


def _show_warning(usual: Callable[..., None], name: str, message: Warning | str, *where: Any, **more: Any) -> None:
    """Write a warning of this package in one line, others as usual."""
    if issubclass(where[0], ComheWarning):
        print(f"{name}: warning: {' '.join(str(message).split())}", file=sys.stderr)
    else:
        usual(message, *where, **more)


if __name__ == "__main__":
    sys.exit(main())

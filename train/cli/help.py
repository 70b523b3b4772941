"""The help of commands, made of their classes: what they do, examples, options in groups with their true defaults."""

import inspect
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from .arguments import Flag, flags_of
from .console import width_of
from .options import DATA, JOBS, MACHINE, Command

LAST = ("options", DATA.title, MACHINE.title, JOBS.title)  # groups of options that stand below the command's own
INDENT, COLUMN = "  ", 24  # where what an option does begins
NARROWEST, WIDEST = 40, 100
TYPES = {int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}


def command_help(name: str, command: type[Command]) -> str:
    """Return the help of a command that is called ``name``."""
    width = help_width()
    flags = flags_of(command)
    usage = " ".join(
        ["usage:", "comhe", name, "[OPTIONS]", *(_value(flag, command) for flag in flags if not flag.names)]
    )
    parts = [[_wrapped(usage, width, "", INDENT * 3)], list(paragraphs(inspect.getdoc(command) or "", width))]
    if command.examples:
        parts.append(["examples:", *(_command_line(line, width) for line in command.examples)])
    groups = dict.fromkeys(flag.group for flag in flags)
    for group in sorted(groups, key=lambda title: LAST.index(title) if title in LAST else -1):
        parts.append([f"{group}:", *(_option(flag, command, width) for flag in flags if flag.group == group)])
        if group == "options":
            parts[-1].append(_entry("-h, --help", "show this help", width))
    return "\n\n".join("\n".join(part) for part in parts)


def overview(description: str, groups: dict[str, dict[str, str]], epilog: str, usage: str) -> str:
    """Return the help of all commands, given what each does in a sentence."""
    width = help_width()
    parts = [f"usage: {usage}", "\n".join(paragraphs(description, width))]
    for title, commands in groups.items():
        parts.append("\n".join([f"{title}:", *(_entry(name, text, width, 14) for name, text in commands.items())]))
    return "\n\n".join([*parts, "\n".join(paragraphs(epilog, width))])


def help_width() -> int:
    return min(WIDEST, max(NARROWEST, width_of(sys.stdout) or 80))


def paragraphs(text: str, width: int) -> Iterator[str]:
    """Text in lines of a width; what is indented stays as it is, as far as it fits."""
    for number, part in enumerate(text.strip().split("\n\n")):
        if number:
            yield ""
        if part.startswith("  "):
            for line in map(str.strip, part.splitlines()):
                is_command = line.startswith(("comhe ", "source "))
                yield _command_line(line, width) if is_command else _wrapped(line, width, INDENT, INDENT * 2)
        else:
            yield _wrapped(" ".join(part.split()), width)


def _command_line(line: str, width: int) -> str:
    """A command in lines that a shell reads as one."""
    return _wrapped(line, width - 2, INDENT, INDENT * 3).replace("\n", " \\\n")


def _option(flag: Flag, command: type[Command], width: int) -> str:
    names = list(flag.names)
    if flag.is_switch:
        names += [
            f"--no-{name[2:]}" for name in flag.names if name.startswith("--") and _default(flag, command) is True
        ]
    left = ", ".join(names) if flag.is_switch else f"{', '.join(names)} {_value(flag, command)}".strip()
    said = getattr(flag.about, "help", None) or ""
    return _entry(left, f"{said} {_default_text(flag, command)}".strip(), width)


def _entry(left: str, text: str, width: int, column: int = COLUMN) -> str:
    """An option or a command, and what it does, next to it or, where there is no space, below it."""
    column = min(column, width // 3)
    head = INDENT + left
    pad = " " * column
    if len(head) < column:
        return _wrapped(text, width, head.ljust(column), pad)
    return "\n".join([_wrapped(left, width, INDENT, INDENT * 3), _wrapped(text, width, pad, pad)])


def _value(flag: Flag, command: type[Command]) -> str:
    """How the value of an option is called."""
    if flag.is_switch:
        return ""
    if flag.about is not None and flag.about.metavar:
        return flag.about.metavar
    kinds = [kind for kind in _members(flag.hint) if kind is not type(None)]
    choices = [str(choice) for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    if choices:
        return f"{{{','.join(choices)}}}"
    if not flag.names:
        return flag.field.upper() + ("..." if get_origin(flag.hint) is tuple else "")
    return next((TYPES[kind] for kind in kinds if kind in TYPES), "VALUE")


def _members(hint: Any) -> Sequence[Any]:
    return get_args(hint) if isinstance(hint, UnionType) or str(get_origin(hint)) == "typing.Union" else (hint,)


def _default(flag: Flag, command: type[Command]) -> Any:
    return next((f.default for f in fields(command) if f.name == flag.field), MISSING)


def _default_text(flag: Flag, command: type[Command]) -> str:
    default, hint = _default(flag, command), getattr(flag.about, "help_behavior_hint", None)
    if default is MISSING:
        return "(required)" if flag.names else ""
    if hint is not None and (default in (None, "") or isinstance(default, tuple)):
        return f"(default: {hint})"
    if default in (None, "", ()) or not flag.names:
        return ""
    if isinstance(default, bool):
        return f"(default: {'yes' if default else 'no'})"
    return f"(default: {' '.join(map(str, default)) if isinstance(default, tuple) else default})"


def _wrapped(text: str, width: int, first: str = "", rest: str = "") -> str:
    wrapper = textwrap.TextWrapper(width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
    return "\n".join(wrapper.wrap(text)) or first.rstrip()

"""The arguments of a command in the form that its parser takes, and what is wrong with them in one line."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from tyro.conf import Positional

from comhe.errors import ComheError, UsageError, WeightsError, did_you_mean

from .options import Command, Group

POSITIONAL = get_args(Positional[str])[1]
NUMBER = re.compile(r"-\.?\d.*")  # what begins with a dash and is a value


class Flag(NamedTuple):
    """An option of a command: its field, its names on the command line, its type and what its help says."""

    field: str
    names: tuple[str, ...]  # empty for an argument without a flag
    hint: Any
    about: Any  # tyro's `arg`
    group: str

    @property
    def is_switch(self) -> bool:
        return self.hint is bool

    @property
    def takes_many(self) -> bool:
        """Whether it takes several words: ``NAME=VALUE ...``."""
        return get_origin(self.hint) is tuple and self.about is not None and " ..." in (self.about.metavar or "")


def flags_of(command: type[Command]) -> list[Flag]:
    """Return the options of a command, arguments without a flag first."""
    found = [_flag(name, hint) for name, hint in get_type_hints(command, include_extras=True).items()]
    return sorted((flag for flag in found if flag is not None), key=lambda flag: bool(flag.names))


def _flag(name: str, hint: Any) -> Flag | None:
    """The option of a field; None for what is no field (``ClassVar``)."""
    metadata: list[Any] = []
    while get_origin(hint) is Annotated:
        hint, *more = get_args(hint)
        metadata += more
    if "ClassVar" in str(hint):
        return None
    about = next((each for each in metadata if hasattr(each, "help_behavior_hint")), None)
    group = next((each.title for each in metadata if isinstance(each, Group)), "options")
    if POSITIONAL in metadata:
        return Flag(name, (), hint, about, "arguments")
    flag = f"--{((about and about.name) or name).replace('_', '-')}"
    return Flag(name, (flag, *((about and about.aliases) or ())), hint, about, group)


def normalize(argv: Sequence[str], command: type[Command]) -> list[str]:
    """Return the arguments as the parser takes them.

    A switch may be written ``--flag True`` or ``--flag=false``, and what takes ``NAME=VALUE ...`` may be given twice.
    Words without an option may stand between options.

    Example:
        >>> from .train import train_command
        >>> normalize(["--compile", "True", "--nesterov=false", "--swap-head"], train_command("images"))
        ['--compile', '--no-nesterov', '--swap-head']

    Raises:
        UsageError: a flag that the command does not have (the message says which it has that is like it), a value that
            an option cannot have or that is missing, or too few or too many words.
    """
    flags = {name: flag for flag in flags_of(command) for name in flag.names}
    words, spare, given = list[str](), list[str](), set[str]()
    switches = {f"--no-{name[2:]}" for name, flag in flags.items() if flag.is_switch}
    found, rest = list[str](), list(argv)
    places: dict[str, int] = {}  # where further values of an option go
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        name = name.replace("_", "-") if name.startswith("--") else name
        flag = flags.get(name)
        given.add(flag.field if flag else "")
        if word == "--":  # what follows is no option
            words, rest = words + rest, []
        elif flag is None:
            if name.startswith("--") and len(name) > 2 and name not in switches:
                raise UsageError(f"unknown option {name}; {_suggestion(name, [*flags, *switches])}")
            if name in switches and equals:
                raise UsageError(f"{name} is given alone, not with {value!r}")
            if re.match(r"-[^-]", word) and not NUMBER.match(word) and word[:2] not in flags:
                raise UsageError(f"unknown option {word}; what begins with a dash and is none goes behind --")
            (found if name in switches or word[:2] in flags else words).append(name if name in switches else word)
        elif flag.is_switch:
            found.append(_switch(name, equals, value, rest))
        elif flag.takes_many:
            values = [value] * bool(equals) + list(_values(rest))
            spare = [] if rest else values
            if not values and Path in get_args(flag.hint):
                raise UsageError(f"{name} needs a value")
            place = places.get(name, len(found))
            if place == len(found):
                found.append(name)
            inserted = place + 1 + _count(found[place + 1 :])
            found[inserted:inserted] = values
            places = {other: at + len(values) * (at > place) for other, at in places.items()} | {name: place}
        else:
            found += _single(name, equals, value, rest, flag.hint)
    _check_words(words, spare, given, command)
    return [*found, "--", *words] if any(word.startswith("-") for word in words) else [*words, *found]


def in_flags(text: str, command: type[Command]) -> str:
    """Return what a function says, with the arguments that it advises under their names on the command line.

    Example:
        >>> from .train import train_command
        >>> in_flags("no head; pass swap_head=True to keep yours", train_command("images"))
        'no head; pass --swap-head to keep yours'
    """
    flags = _names(command)
    advised = re.compile(rf"(\b(?:by|pass|mean|and) |: )({'|'.join(flags)})=(True\b)?")
    text = advised.sub(lambda found: f"{found[1]}{flags[found[2]]}{'' if found[3] else ' '}", text)
    options = r"\1--model-options \2" if "model_options" in flags else r"\1\2"
    return re.sub(r"(\bbuild (?:it|the model) with )(\w+=)", options, text)


def explain(error: ComheError, command: type[Command]) -> None:
    """Make an error advise what the command has: no options of others, and its own by their names."""
    flags = _names(command)
    text = str(error)
    if isinstance(error, WeightsError):
        own = [f"{flags[name]} {value}" for name, value in error.build.items() if name in flags]
        rest = [f"{name}={value}" for name, value in error.build.items() if name not in flags]
        own += [" ".join(("--model-options", *rest))] if rest and "model_options" in flags else []
        load = {option: what for option, what in error.load.items() if option.partition("=")[0] in flags}
        text = error.with_advice(f"build the model with {' '.join(own)}" if own else "", load)
    if len(error.args) == 1:
        error.args = (in_flags(text, command),)


def _names(command: type[Command]) -> dict[str, str]:
    """The options of a command by field: what each is called on the command line."""
    return {flag.field: flag.names[0] for flag in flags_of(command) if flag.names}


def _single(name: str, equals: str, value: str, rest: list[str], hint: Any) -> list[str]:
    """An option with one value, in one word or in two."""
    if not equals and (not rest or (re.match("-.", rest[0]) and not NUMBER.match(rest[0]))):
        dashed = f"; one that begins with a dash is written {name}={rest[0]}" if rest else ""
        raise UsageError(f"{name} needs a value{dashed}")
    _check_value(name, value if equals else rest[0], hint)
    return [name + equals + value] if equals else [name, rest.pop(0)]


def _check_value(name: str, text: str, hint: Any) -> None:
    kinds = _kinds(hint)
    if text == "None" and type(None) in kinds:
        return
    if choices := _choices(hint):
        if text not in choices:
            where = "; a file of weights comes first, without an option" if name == "--weights" else ""
            raise UsageError(f"{name} must be {_one_of(choices)}, not {text!r}{where}")
        return
    for kind, called in ((int, "a whole number"), (float, "a number")):
        try:
            _ = kind(text) if kind in kinds else 0
        except ValueError:
            raise UsageError(f"{name} must be {called}, not {text!r}") from None


def _kinds(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (UnionType, Union) else (hint,)


def _choices(hint: Any) -> list[str]:
    return [choice for kind in _kinds(hint) if get_origin(kind) is Literal for choice in get_args(kind)]


def _one_of(choices: Sequence[str]) -> str:
    return f"{', '.join(choices[:-1])} or {choices[-1]}"


def _check_words(words: list[str], spare: Sequence[str], given: set[str], command: type[Command]) -> None:
    """Raise UsageError for words without an option that are too many, too few or not among the choices.

    The parser takes what is missing from the end of ``spare``, the values of an option at the end of the line.
    """
    fields = {field.name for field in dataclasses.fields(command) if field.default is dataclasses.MISSING}
    needed = [flag for flag in flags_of(command) if flag.field in fields]
    arguments = [flag for flag in flags_of(command) if not flag.names]
    lacking = sum(not flag.names for flag in needed) - len(words)
    words = words + list(spare[-lacking:] if lacking > 0 else ())
    for i, flag in enumerate(arguments):
        name = flag.about.metavar or flag.field.upper()
        if i < len(words):
            _check_value(name, words[i], flag.hint)
        elif flag in needed:
            choices = _choices(flag.hint)
            raise UsageError(f"{name} is missing: {_one_of(choices) if choices else flag.about.help}")
    for flag in needed:
        if flag.names and flag.field not in given:
            raise UsageError(f"{flag.names[0]} is missing: {flag.about.help}")
    if any(get_origin(flag.hint) is tuple for flag in arguments):
        return  # it takes all further words
    if more := words[len(arguments) :]:
        many = "a word" if len(more) == 1 else "words"
        raise UsageError(f"{' '.join(more)}: {many} too many; options begin with --")


def _values(rest: list[str]) -> Iterator[str]:
    while rest and not rest[0].startswith("-"):
        yield rest.pop(0)


def _count(words: list[str]) -> int:
    return next((i for i, word in enumerate(words) if word.startswith("--")), len(words))


def _switch(name: str, equals: str, value: str, rest: list[str]) -> str:
    if not equals and rest and rest[0].lower() in ("true", "false"):
        value = rest.pop(0)
    if value.lower() not in ("true", "false", "") or (equals and not value):
        raise UsageError(f"{name} is given alone, or with True or False, not with {value!r}")
    return name.replace("--", "--no-", 1) if value.lower() == "false" else name


def _suggestion(name: str, known: Sequence[str]) -> str:
    plain = [each for each in known if not each.startswith("--no-") or name.startswith("--no-")]
    said = did_you_mean(name, plain)
    return said if said.startswith("did you mean") else "--help lists those that there are"

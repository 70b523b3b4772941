"""The arguments of a command in the form that its parser takes, and what is wrong with them in one line."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

from tyro.conf import Positional

from comhe.errors import UsageError, did_you_mean

from .options import Command, Group

POSITIONAL = get_args(Positional[str])[1]


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

    Example:
        >>> from .train import train_command
        >>> normalize(["--compile", "True", "--nesterov=false", "--swap-head"], train_command("images"))
        ['--compile', '--no-nesterov', '--swap-head']

    Raises:
        UsageError: a flag that the command does not have; the message says which it has that is like it.
    """
    flags = {name: flag for flag in flags_of(command) for name in flag.names}
    switches = {f"--no-{name[2:]}" for name, flag in flags.items() if flag.is_switch}
    found, rest = list[str](), list(argv)
    places: dict[str, int] = {}  # where further values of an option go
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        name = name.replace("_", "-") if name.startswith("--") else name
        flag = flags.get(name)
        if flag is None:
            if name.startswith("--") and len(name) > 2 and name not in switches:
                raise UsageError(f"unknown option {name}; {_suggestion(name, [*flags, *switches])}")
            found.append(name + equals + value if name in switches else word)
        elif flag.is_switch:
            found.append(_switch(name, equals, value, rest))
        elif flag.takes_many:
            values = [value] * bool(equals) + list(_values(rest))
            place = places.get(name, len(found))
            if place == len(found):
                found.append(name)
            inserted = place + 1 + _count(found[place + 1 :])
            found[inserted:inserted] = values
            places = {other: at + len(values) * (at > place) for other, at in places.items()} | {name: place}
        else:
            found.append(name + equals + value)
    return found


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

"""Command-line flags made from dataclasses, so that a setting is described once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import tyro

from comhe.train.recipe import Recipe

CELL = ("model", "data", "regularizer")  # what a comparison is over, the seed apart


@dataclasses.dataclass(frozen=True)
class Place:
    """Where things are and run; nothing that changes a result."""

    data_root: Annotated[
        str | None, tyro.conf.arg(help="folder of the data sets; else $COMHE_DATA, else the user's cache")
    ] = None
    runs: Annotated[Path, tyro.conf.arg(help="folder of the run folders")] = Path("runs")
    device: Annotated[str, tyro.conf.arg(help="cpu, cuda, cuda:1, ...; under torchrun cuda is each process's own")] = (
        "cpu"
    )


def recipe_flags(kind: type[Recipe], leave_out: tuple[str, ...] = ()) -> type:
    """A dataclass with the fields of a recipe, all optional: what is not given is as the named recipe says."""
    hints = get_type_hints(kind)
    made = [
        (f.name, Annotated[hints[f.name] | None, tyro.conf.arg(help=f.metadata["help"])], None)
        for f in dataclasses.fields(kind)
        if f.name not in leave_out
    ]
    return dataclasses.make_dataclass(f"{kind.__name__}Flags", made, frozen=True)


def given(flags: Any) -> dict[str, Any]:
    """The flags that were given."""
    values = {f.name: getattr(flags, f.name) for f in dataclasses.fields(flags)}
    return {name: value for name, value in values.items() if value is not None}


def settings_of(kind: type[Recipe], text: str, program: str, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """The settings in a text like ``epochs=5,precision=bf16``; a mistake ends the program like one in a flag."""
    words: list[str] = []
    for item in text.split(",") if text else ():
        name, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"settings are written name=value, with commas between them, not {item!r}")
        words += [f"--{name.strip().replace('_', '-')}", value]
    flags = recipe_flags(kind, (*leave_out, "recipe", "seed", "model_options", "regularizer_options"))
    return given(parse(flags, words, program, "Settings of a recipe."))


def parse(kind: type, words: list[str], program: str, description: str) -> Any:
    """Parse the words behind a command; a mistake ends the program with one clear message."""
    return tyro.cli(kind, args=words, prog=program, description=description, config=(tyro.conf.OmitArgPrefixes,))

"""Runs as commands for a shell, which any scheduler can start."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import fields

from comhe.train.recipe import Option, Recipe, get_recipe
from comhe.train.runs.launch import unfinished
from comhe.train.settings import parse_value

from .options import ManyRuns
from .train import NAMED, OPTIONS


def train_arguments(recipe: Recipe) -> list[str]:
    """Return the arguments of ``comhe`` that train a recipe: its names, and the settings that differ from theirs."""
    named = get_recipe(recipe.recipe, recipe.model, recipe.data, recipe.regularizer)
    found = ["train", recipe.domain]
    for name in (*NAMED, "seed"):
        found += [f"--{name}", str(getattr(recipe, name))]
    for name in (f.name for f in fields(recipe) if f.name not in (*NAMED, "seed", "domain")):
        value, flag = getattr(recipe, name), name.replace("_", "-")
        if value == getattr(named, name):
            continue
        if name in OPTIONS:
            found += [f"--{flag}", *_texts(value, getattr(named, name))]
        elif isinstance(value, bool):
            found.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            found += [f"--{flag}", str(value)]
    return found


def print_commands(command: ManyRuns, recipes: Iterable[Recipe]) -> None:
    """Print a line of shell for each run that is not done, with the same modules, folders and device as the command."""
    others = [part for module in command.modules for part in ("--import", module)]
    for name in ("runs", "data_root", "device", "threads"):
        if (value := getattr(command, name)) not in (None, "auto"):
            others += [f"--{name.replace('_', '-')}", str(value)]
    for recipe in unfinished(recipes, command.runs):
        print(shlex.join(["comhe", *train_arguments(recipe), *others]))


def _texts(options: Mapping[str, Option], named: Mapping[str, Option]) -> list[str]:
    """Write options that differ from the named recipe's as ``name=value``, so that they are read as what they are."""
    found = {name: repr(value) for name, value in named.items()}  # True is equal to 1, but another option
    return [f"{name}={_text(name, value)}" for name, value in options.items() if found.get(name) != repr(value)]


def _text(name: str, value: Option) -> str:
    text = str(value)
    read = parse_value(name, text, Option)
    return text if (type(read), read) == (type(value), value) else repr(value)

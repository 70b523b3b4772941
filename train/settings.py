"""Settings written as text: ``weight=0.1,1 dim=30`` for a sweep, ``dim=30 span=True`` for options."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import Any, get_args, get_type_hints

from comhe.errors import UsageError

from .recipe import Option, Recipe

Settings = dict[str, list[Any]]
# Settings that name what is compared, and dictionaries; they have flags of their own.
OTHER_FLAGS = ("recipe", "domain", "model", "data", "regularizer", "seed", "model_options", "regularizer_options")


def parse_settings(text: str, kind: type[Recipe]) -> Settings:
    """Parse settings, each with one value or several.

    Pairs are separated by spaces or commas, values by commas. A name that is not a field of ``kind`` is taken for an
    option of a regularizer.

    Raises:
        UsageError: If the text is not a list of ``name=value``, or a value does not have the type of its field.

    Example:
        >>> from comhe.train import GraphRecipe
        >>> parse_settings("weight=0.1,1 dim=30,40,epochs=5", GraphRecipe)
        {'weight': [0.1, 1.0], 'dim': [30, 40], 'epochs': [5]}
    """
    hints = get_type_hints(kind)
    settings: Settings = {}
    for item in filter(None, re.split(r"[\s,]+(?=[A-Za-z][\w-]*=)", text.strip())):
        name, equals, values = item.partition("=")
        name = name.replace("-", "_")
        if not equals:
            raise UsageError(f"settings are written as name=value or name=value,value, not {item!r}")
        if name in OTHER_FLAGS:
            raise UsageError(f"{name} is not set by --settings; options of a regularizer are set by their own names")
        if name in settings:
            raise UsageError(f"{name} is set twice; separate several values by commas: {name}=value,value")
        hint = hints.get(name, Option)
        separator = r",(?=[A-Za-z])" if hint is str else ","  # schedule=step:0.5,0.75 is one value
        settings[name] = [parse_value(name, value, hint) for value in re.split(separator, values)]
    return settings


def parse_options(texts: Sequence[str]) -> dict[str, Option]:
    """Parse options of a model or regularizer, each with one value.

    Example:
        >>> parse_options(["dim=30", "span=true", "loss=cosine"])
        {'dim': 30, 'span': True, 'loss': 'cosine'}
    """
    options = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"options are written as name=value, separated by spaces, not {text!r}")
        options[name.replace("-", "_")] = parse_value(name, value, Option)
    return options


def parse_value(name: str, text: str, hint: Any) -> Any:
    """Convert text to the type of a setting; where several are possible, to the first of int, float, bool and str.

    Raises:
        UsageError: If the text does not say a value of the type.

    Example:
        >>> parse_value("lr", "1", float), parse_value("weight", "none", float | None), parse_value("dim", "x", Option)
        (1.0, None, 'x')
    """
    allowed = get_args(hint) or (hint,)
    if hint is str:
        return text
    try:
        value = ast.literal_eval(text.capitalize() if text.lower() in ("true", "false", "none") else text)
    except (ValueError, SyntaxError):
        value = text
    if type(value) is int and int not in allowed and float in allowed:
        value = float(value)
    if type(value) not in allowed:
        types = " or ".join("none" if each is type(None) else each.__name__ for each in allowed)
        raise UsageError(f"{name} must be of type {types}, not {text!r}")
    return value

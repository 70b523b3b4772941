"""Settings as text, ``weight=0.1,1 dim=30``, and the variants of recipes that several values make.

The syntax is one everywhere: ``name=value`` with spaces between, or commas, and values of a sweep with commas between.
"""

import ast
import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_type_hints

from comhe.errors import UsageError, did_you_mean
from comhe.regularizers import regularizer_options
from comhe.zoo import model_options

from .recipe import Option, Recipe, plain

# What is compared, and dictionaries of options; they have flags of their own.
OTHER_FLAGS = (
    "recipe", "domain", "model", "data", "regularizer", "seed", "model_options", "regularizer_options", "layer_weights",
    "weights_digest",
)  # fmt: skip
PENALTY = {"weight", "output_weight"}  # settings that do not apply to `none`
SEVERAL = {"include", "exclude", "kinds", "output"}  # options that take names with commas between


def parse_settings(text: str, kind: type[Recipe]) -> dict[str, list[Any]]:
    """Parse settings, each with one value or several; a name that is not a field of ``kind`` is taken for an option."""
    hints = get_type_hints(kind)
    settings: dict[str, list[Any]] = {}
    for item in _items(text):
        name, values = _name_and_value(item)
        if name in OTHER_FLAGS or name in settings:
            reason = f"separate its values by commas: {name}=value,value" if name in settings else "it has its own flag"
            raise UsageError(f"{name} cannot be among the settings {'twice' if name in settings else 'here'}; {reason}")
        hint = hints.get(name, Option)
        separator = r",(?=[A-Za-z])" if hint is str else ","  # schedule=step:0.5,0.75 is one value
        settings[name] = [parse_value(name, value, hint) for value in re.split(separator, values)]
    return settings


def parse_options(texts: Sequence[str], divided: bool = True) -> dict[str, Option]:
    """Parse options of a model or regularizer, each with one value; ``divided`` by commas and spaces, as settings are.

    Example:
        >>> parse_options(["dim=30,count=5", "span=True"])
        {'dim': 30, 'count': 5, 'span': True}
    """
    found: dict[str, Option] = {}
    for item in (part for text in texts for part in (_items(text) if divided else [text])):
        name, value = _name_and_value(item)
        if name in found:
            raise UsageError(f"{name} is given twice, as {found[name]!r} and as {value!r}")
        if (
            divided
            and name not in SEVERAL
            and "," in value
            and all(re.fullmatch(r"[-+.\w]+", each) for each in value.split(","))
        ):
            raise UsageError(f"{name} takes one value here, not {value!r}; comhe compare --settings takes several")
        found[name] = parse_value(name, value, str if divided and name in SEVERAL else Option)
    return found


def parse_weights(texts: Sequence[str]) -> dict[str, float]:
    """Parse weights of layers, ``blocks.*=0.1``, in their order."""
    found = {}
    for text in (part for each in texts for part in re.split(r",(?=[^,]*=)|\s+", each) if part):
        glob, equals, value = text.rpartition("=")
        if not equals or not glob:
            raise UsageError(f"weights of layers are written as layer=weight, with spaces between them, not {text!r}")
        found[glob] = parse_value(f"the weight of {glob}", value, float)
    return found


def _items(text: str) -> list[str]:
    return [item for item in re.split(r"[\s,]+(?=[A-Za-z][\w-]*=)", text.strip()) if item]


def parse_value(name: str, text: str, hint: Any) -> Any:
    """Convert text to a type, or the first that it fits of several."""
    allowed = get_args(hint) or (hint,)
    if hint is str:
        return text
    try:
        value = ast.literal_eval(text.capitalize() if text.lower() in ("true", "false", "none") else text)
    except (ValueError, SyntaxError):
        value = text
    if type(value) is int and int not in allowed and float in allowed:
        value = float(value)
    if type(value) not in allowed and str in allowed:
        return text
    if type(value) not in allowed:
        types = " or ".join("none" if each is type(None) else each.__name__ for each in allowed)
        raise UsageError(f"{name} must be of type {types}, not {text!r}")
    return value


def _name_and_value(item: str) -> tuple[str, str]:
    name, equals, value = item.partition("=")
    if not equals:
        raise UsageError(f"settings and options are written as name=value, with spaces between them, not {item!r}")
    return name.replace("-", "_"), value


def variants(recipes: Sequence[Recipe], settings: Mapping[str, Any]) -> list[Recipe]:
    """Return each recipe with every combination of the settings that apply to it; a list or an array is a sweep."""
    found, known = [], dict.fromkeys(settings, False)
    suggestions: set[str] = set()
    for recipe in recipes:
        fields = {f.name for f in dataclasses.fields(recipe)}
        options = set(regularizer_options(recipe.regularizer)) - fields
        builder = set(model_options(recipe.model)) - fields - options - set(recipe.example_sizes)
        fields -= set(OTHER_FLAGS)
        if recipe.regularizer == "none":
            fields, options = fields - PENALTY, set()
        suggestions |= fields | options | builder
        applied = {name: settings[name] for name in settings if name in fields | options | builder}
        known |= dict.fromkeys(applied, True)
        values_of = map(plain, applied.values())  # an array becomes a list
        sweep = (value if isinstance(value, list | tuple | range) else [value] for value in values_of)
        for values in itertools.product(*sweep):
            changes = dict(zip(applied, values, strict=True))
            chosen = {name: changes.pop(name) for name in applied if name in options}
            built = {name: changes.pop(name) for name in applied if name in builder}
            changes["regularizer_options"] = recipe.options_with(chosen)
            changes["model_options"] = recipe.model_options | built
            found.append(recipe.replace(**changes))
    for name, applies in known.items():
        if not applies:
            hint = did_you_mean(name, sorted(suggestions))
            raise UsageError(f"no recipe, regularizer or model here has a setting {name!r}; {hint}")
    return found

import inspect
import json
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from comhe.errors import UsageError, did_you_mean
from comhe.train.docstrings import arguments, first_sentence, plain

from .console import print_table
from .help import help_width, paragraphs
from .options import Command, Json, print_json

if TYPE_CHECKING:
    from comhe.train.recipe import Recipe

SIZES = ("weight", "output_weight", "seed", "num_classes", "in_channels")


@dataclass(frozen=True, kw_only=True)
class Show(Command):
    """Show what is behind a name: the settings of a recipe, a regularizer or a model with its options."""

    examples = ("comhe show recipe paper --domain images", "comhe show regularizer rp-comhe", "comhe show model dgcnn")

    what: Annotated[Positional[Literal["recipe", "regularizer", "model"]], arg(help="what the name is of")]
    name: Annotated[Positional[str], arg(metavar="NAME", help="a name of `comhe list`")]
    domain: Annotated[
        str | None,
        arg(metavar="{images,points,graphs}", help="of a recipe", help_behavior_hint="all that have one of this name"),
    ] = None
    model: Annotated[
        str | None,
        arg(metavar="NAME", help="the model that a recipe is for", help_behavior_hint="the usual one of the domain"),
    ] = None
    data: Annotated[
        str | None,
        arg(metavar="NAME", help="the data set that it is for", help_behavior_hint="the usual one of the domain"),
    ] = None
    regularizer: Annotated[str, arg(metavar="NAME", help="the regularizer that it is for")] = "none"
    json: Json = False

    def run(self) -> None:
        if self.what != "recipe":
            self.only_for("recipes", "domain", "model", "data", "regularizer")
        {"recipe": self.recipe, "regularizer": self.penalty, "model": self.network}[self.what]()

    def recipe(self) -> None:
        from comhe.train.recipe import HEADINGS, TRAINING, domains, find_domain, list_recipes
        from comhe.zoo import model_domain

        chosen = self.domain or (model_domain(self.model) if self.model else None)
        found = [d for d in domains() if chosen in (None, d) and self.name in find_domain(d).recipes]
        if not found:
            raise UsageError(f"unknown recipe {self.name!r}; {did_you_mean(self.name, list_recipes(chosen))}")
        recipes = {d: named(self.name, d, self.model, self.data, self.regularizer) for d in found}
        if self.json:
            return print_json({domain: vars(recipe) for domain, recipe in recipes.items()})
        for number, (domain, recipe) in enumerate(recipes.items()):
            print("\n" * (number > 0) + f"recipe {self.name} for {domain}")
            text = inspect.getdoc(find_domain(domain).recipes[self.name]) or ""
            text = text.removeprefix("Return ")
            _say(text[:1].upper() + text[1:])
            lines = []
            for f in sorted(fields(recipe), key=lambda f: HEADINGS.index(f.metadata.get("group", TRAINING))):
                value = getattr(recipe, f.name)
                shown = " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else value
                if f.name not in ("domain", "weights_digest"):
                    about, choices = f.metadata.get("help", ""), f.metadata.get("choices", ())
                    if not all(choice in about for choice in choices):
                        about += f" ({', '.join(choices)})"
                    lines.append([f.name, "-" if shown in (None, "") else str(shown), about])
            print_table("", ["setting", "value", "what it is"], lines)

    def penalty(self) -> None:
        from comhe.regularizers import regularizer_options
        from comhe.regularizers.registry import about_regularizer

        options, text = regularizer_options(self.name), about_regularizer(self.name)
        if self.json:
            return print_json({"name": self.name, "about": text, "options": options})
        print(f"regularizer {self.name}")
        _say(text)
        _options(options, _about_options(self.name), f"comhe train ... --regularizer {self.name} --regularizer-options")

    def network(self) -> None:
        from comhe.zoo import list_weights, model_domain, model_options
        from comhe.zoo.catalog import about_model
        from comhe.zoo.sizes import count_parameters

        options, text = model_options(self.name), about_model(self.name)
        known = [name for name in list_weights(self.name) if name.split(".")[0] == self.name]
        facts = {"domain": model_domain(self.name), "parameters": count_parameters(self.name)}
        if self.json:
            return print_json({"name": self.name, **facts, "about": text, "options": options, "weights": known})
        count = f", {facts['parameters']:,} parameters" if facts["parameters"] is not None else ""
        print(f"model {self.name} for {facts['domain']}{count}")
        _say(text)
        _options(options, arguments(text), f"comhe train {facts['domain']} --model {self.name} --model-options")
        if known:
            print()
            _say(f"weights: {', '.join(known)}")


def named(
    name: str, domain: str, model: str | None = None, data: str | None = None, regularizer: str = "none"
) -> "Recipe":
    """Return a domain's recipe for the model, data set and regularizer, the usual ones of the domain if not named."""
    from comhe.train.recipe import find_domain, get_recipe

    usual = find_domain(domain).recipe()
    return get_recipe(name, model or usual.model, data or usual.data, regularizer)


def _say(text: str) -> None:
    print("\n".join(["", *paragraphs(plain(text), help_width()), ""]))


def _about_options(name: str) -> dict[str, str]:
    """What is written about each option of a regularizer, by its penalty, the bases of that, and the plug."""
    from comhe import regularizers
    from comhe.regularizers.registry import find_penalty
    from comhe.regularizers.selection import select

    penalty = find_penalty(name)
    found = arguments(select.__doc__) | arguments(regularizers.Regularizer.__doc__)
    for base in reversed(penalty.__mro__ if isinstance(penalty, type) else ()):
        for option, about in arguments(base.__doc__).items():
            other = re.match(r"see (\w+)", about)  # the function that has the option, too
            function = getattr(regularizers, other[1], None) if other else None
            found[option] = arguments(function.__doc__).get(option, about) if function else about
    return found


def _options(options: dict[str, Any], about: dict[str, str], command: str) -> None:
    """Print a table of options, and a command with one of them, unless the data decide them all."""
    lines = [[name, _text(value), first_sentence(about.get(name))] for name, value in options.items()]
    has_text = any(line[2] for line in lines)
    header, lines = ["option", "default", "what it is"][: 2 + has_text], [line[: 2 + has_text] for line in lines]
    given = next((f"{k}={v}" for k, v in options.items() if isinstance(v, int | float) and k not in SIZES), "")
    print_table("", header, lines, f"As in: {command} {given}" if given else "")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "-" if value is None else json.dumps(value, default=str)

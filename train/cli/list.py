import inspect
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from comhe.train.docstrings import first_sentence

from .console import print_table
from .options import Command, Json, print_json
from .show import named

Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class List(Command):
    """List models, data sets, regularizers, recipes or pretrained weights, with what one chooses them by."""

    examples = ("comhe list models 'resnet*'", "comhe list weights gcn", "comhe list weights --json")

    what: Annotated[
        Positional[Literal["models", "datasets", "regularizers", "recipes", "weights"]], arg(help="of what")
    ]
    pattern: Annotated[
        Positional[str], arg(metavar="[PATTERN]", help="names to list, such as 'resnet*'; all if there is none")
    ] = "*"
    json: Json = False

    def run(self) -> None:
        rows = {"models": models, "datasets": datasets, "regularizers": regularizers, "recipes": recipes}
        found = weights(self.pattern) if self.what == "weights" else rows[self.what](self.pattern)
        if self.json:
            return print_json(found)
        if not found:
            return print(f"no name of {self.what} matches {self.pattern}")
        header = [*found[0]]
        print_table(
            "", header, [[_cell(name, row[name]) for name in header] for row in found], NOTES.get(self.what, "")
        )


NOTES = {
    "models": "Parameters for the number of classes that is the default; of graph networks for Cora.",
    "weights": "Test accuracy of the weights, and mean and standard deviation of all seeds they were chosen from.",
    "datasets": "Any seed may replace the 0 of -random0, and any number the 0 of -split0.",
}


def models(pattern: str) -> Rows:
    from comhe.zoo import list_models, list_weights, model_domain
    from comhe.zoo.catalog import about_model
    from comhe.zoo.sizes import count_parameters

    counts: dict[str, int] = {}
    for name in list_weights():
        counts[name.split(".")[0]] = counts.get(name.split(".")[0], 0) + 1
    return [
        {
            "model": name,
            "domain": model_domain(name),
            "parameters": count_parameters(name),
            "weights": counts.get(name, 0),
            "what it is": first_sentence(about_model(name)),
        }
        for name in list_models(pattern)
    ]


def datasets(pattern: str) -> Rows:
    from comhe.datasets import about_data, dataset_domains, list_data

    names = [name for name in list_data() if fnmatchcase(name, pattern)]
    return [
        {"data": name, "domain": ", ".join(dataset_domains(name)), "what it is": first_sentence(about_data(name))}
        for name in names
    ]


def regularizers(pattern: str) -> Rows:
    from comhe.regularizers import list_regularizers, regularizer_options
    from comhe.regularizers.registry import about_regularizer

    found = []
    for name in list_regularizers(pattern):
        options = regularizer_options(name)
        weight, output = options["weight"], options["output_weight"]
        found.append(
            {
                "regularizer": name,
                "weight": weight,
                "output weight": weight if output is None else output,
                "what it is": first_sentence(about_regularizer(name)),
            }
        )
    return found


def recipes(pattern: str) -> Rows:
    from comhe.train.recipe import domains, find_domain, list_recipes

    found = []
    for domain in domains():
        for name in [name for name in list_recipes(domain) if fnmatchcase(name, pattern)]:
            recipe = named(name, domain)
            row = {"recipe": name, "domain": domain, "epochs": recipe.epochs, "lr": recipe.lr}
            text = inspect.getdoc(find_domain(domain).recipes[name]) or ""
            found.append(row | {"schedule": recipe.schedule, "what it is": first_sentence(text)})
    return found


def weights(pattern: str) -> Rows:
    from comhe.zoo import get_weights, list_weights

    found = []
    for name in list_weights(pattern):  # the pattern may also be the name of a model
        card = get_weights(name).card
        seeds = card["seeds"]
        over = seeds["best"]["test_accuracy"]
        found.append(
            {
                "weights": name,
                "data": card["data"].get("name", card["recipe"]["data"]),
                "test %": round(100 * card["metrics"]["test"]["accuracy"], 6),
                "mean %": round(100 * over["mean"], 6),
                "std %": None if over["std"] is None else round(100 * over["std"], 6),
                "seeds": seeds["n"],
                "MB": card["bytes"] / 1e6 if "bytes" in card else None,
            }
        )
    return found


def _cell(name: str, value: Any) -> str:
    if value is not None and (name.endswith("%") or name == "MB"):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else "" if value is None else str(value)

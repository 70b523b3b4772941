import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_type_hints

from tyro.conf import arg

from comhe.errors import UsageError, warn
from comhe.train.runs.interruption import torchrun_rank

from .console import show_progress
from .options import Computing, Group, Json, Runs, TensorBoard, print_json

if TYPE_CHECKING:
    from comhe.train.recipe import Recipe

OPTIONS = ("model_options", "regularizer_options")
NAMED = ("recipe", "model", "data", "regularizer")  # what the other flags' defaults depend on
METAVARS = {"model": "NAME", "data": "NAME", "regularizer": "NAME", "weights": "NAME|PATH", "tag": "NAME"}


@dataclass(frozen=True, kw_only=True)
class Train(Computing):
    """Train one network. A run that was interrupted goes on, and one that is finished is left alone."""

    base: ClassVar[Any]  # the recipe that its flags change

    runs: Runs = Path("runs")
    tensorboard: TensorBoard = False
    json: Json = False
    shard_penalty: Annotated[
        bool, arg(help="under torchrun: each process computes some layers' penalties"), Group("machine")
    ] = False

    def named_recipe(self) -> "Recipe":
        """Return the recipe that the flags say; options are added to those of the named recipe."""
        from comhe.train.settings import parse_options, parse_weights
        from comhe.train.start import with_start

        values = {f.name: getattr(self, f.name) for f in fields(self.base) if hasattr(self, f.name)}
        values["model_options"] = self.base.model_options | parse_options(values["model_options"])
        values["regularizer_options"] = self.base.options_with(parse_options(values["regularizer_options"]))
        values["layer_weights"] = parse_weights(values["layer_weights"])
        return with_start(self.base.replace(**values))

    def run(self) -> None:
        from comhe.train.engine.distributed import join_ranks
        from comhe.train.runs.launch import fit
        from comhe.train.task import check_recipe

        recipe = self.named_recipe()
        check_recipe(recipe)
        if recipe.regularizer == "none":
            for name in ("weight", "output_weight", "layer_weights"):
                if getattr(recipe, name) != getattr(self.base, name):
                    warn(f"{name} has no effect without a regularizer; name one: --regularizer")
        is_first = torchrun_rank()[0] == 0
        with (
            join_ranks(self.device, self.shard_penalty) as (context, device),
            show_progress(f"{recipe.label} seed {recipe.seed}", "epoch", shown=is_first) as report,
        ):

            def progress(row: dict[str, Any], epochs: int) -> None:
                text = f"loss {row['loss']:.3f}  penalty {row['penalty']:.3f}  val {100 * row['val_accuracy']:.2f} %"
                report(row["epoch"] + 1, epochs, text)

            options: dict[str, Any] = {"progress": progress, "context": context, "tensorboard": self.tensorboard}
            run = fit(recipe, runs=self.runs, root=self.data_root, device=device, **options)
        if not is_first:
            return
        result = run.result()
        if self.json:
            return print_json({"run": str(run.folder), "recipe": vars(recipe), "result": result})
        for which, title in (("last", "last epoch"), ("best", "validation-selected")):
            epoch, val, test = (result[which][name] for name in ("epoch", "val_accuracy", "test_accuracy"))
            print(f"{title} ({epoch + 1}): validation {100 * val:.2f} %, test {100 * test:.2f} %")
        print(f"{run.folder}  ({result['seconds']:.1f} s)")


def training_domains() -> dict[str, str]:
    """Return the domains, and of each what is trained in a sentence."""
    from comhe.train.recipe import domains, find_domain, list_recipes

    found = {}
    for name in domains():
        usual = find_domain(name).recipe()
        recipes = f"recipes {', '.join(list_recipes(name))}" if list_recipes(name) else "no recipe yet"
        found[name] = (
            f"train a network for {name}; usually {usual.model or 'a model'} on {usual.data or 'data'}; {recipes}"
        )
    return found


def train_command(domain: str, argv: Sequence[str] = (), completed: bool = False) -> type[Train]:
    """Return a domain's command: its recipe's fields, with the defaults of the recipe that ``argv`` names.

    For a shell that completes (``completed``) names are choices.
    """
    from comhe.train.recipe import domains, find_domain, get_recipe, list_recipes
    from comhe.train.start import model_of
    from comhe.zoo import model_domain

    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    kind = find_domain(domain).recipe
    usual = kind()
    for name in NAMED:
        early.add_argument(f"--{name}", default=None if name == "recipe" else getattr(usual, name))
    early.add_argument("--weights", default="")
    try:
        cell = vars(early.parse_known_args(_in_pairs(argv))[0])
    except SystemExit:
        raise UsageError(f"a name is missing after one of {', '.join(f'--{name}' for name in NAMED)}") from None
    if (weights := cell.pop("weights")) and "--model" not in argv:
        cell["model"] = model_of(weights, cell["model"])
    if (other := model_domain(cell["model"])) not in domains():
        how = f"register it with @register_model(domain={domain!r})"
        raise UsageError(f"{cell['model']} is registered without a domain, so it cannot be trained; {how}")
    if other != domain:
        raise UsageError(f"{cell['model']} is a model for {other}; train it with: comhe train {other}")
    base = get_recipe(cell.pop("recipe"), **cell)
    hints = get_type_hints(kind)
    known = _choices(domain) if completed else {}
    flags: list[tuple[str, Any, Any]] = []
    for f in fields(kind):
        if f.name in ("domain", "weights_digest"):  # which follow from others
            continue
        default, hint = getattr(base, f.name), hints[f.name]
        choices = list_recipes(domain) if f.name == "recipe" else f.metadata.get("choices", ())
        metavar = f"{{{','.join(choices)}}}" if choices else METAVARS.get(f.name)
        if f.name in (*OPTIONS, "layer_weights"):
            hint, default = tuple[str, ...], tuple(f"{name}={value}" for name, value in default.items())
            metavar = "NAME=VALUE ..." if f.name in OPTIONS else "LAYER=WEIGHT ..."
        elif hint == float | None:
            metavar = "NUMBER"
        elif completed and (names := known.get(f.name) or choices):
            hint = Literal[tuple(names)]
            default = default if default in names else names[0]
        shown = arg(metavar=metavar, help=f.metadata["help"], help_behavior_hint=_hint(f.name, base))
        flags.append((f.name, Annotated[hint, shown, Group(f.metadata.get("group", "options"))], default))
    names = f"{base.recipe!r} for {base.model} on {base.data} with regularizer {base.regularizer}"
    doc = f"{Train.__doc__}\n\nThe defaults are those of the recipe {names}: name others, and --help shows theirs."
    examples = (
        f"comhe train {domain} --model {usual.model} --data {usual.data} --regularizer rp-comhe",
        f"comhe train {domain} --regularizer rp-comhe --regularizer-options dim=30 count=5",
        f"comhe train {domain} --recipe {list_recipes(domain)[-1] if list_recipes(domain) else 'custom'} --help",
    )
    namespace = {"base": base, "__doc__": doc, "examples": examples}
    return make_dataclass("Train", flags, bases=(Train,), namespace=namespace, frozen=True, kw_only=True)


def _in_pairs(argv: Sequence[str]) -> list[str]:
    """The arguments without a request for help, which is not the value of anything."""
    return [word for word in argv if word not in ("-h", "--help")]


def _hint(name: str, base: "Recipe") -> str | None:
    """What stands for a default that the recipe leaves to others."""
    from comhe.regularizers import regularizer_options
    from comhe.regularizers.registry import find_penalty
    from comhe.train.recipe import BatchRecipe
    from comhe.zoo import model_options

    options = regularizer_options(base.regularizer)
    if (rate := find_penalty(base.regularizer).follows_lr) and isinstance(base, BatchRecipe):
        options[rate] = "lr"
    options |= base.regularizer_options
    if name in ("weight", "output_weight"):
        value = options[name]
        said = "as the hidden layers" if value is None else value
        return f"{said}, the regularizer's own" if base.regularizer != "none" else "the regularizer's own"
    if name == "regularizer_options":
        return _said({k: v for k, v in options.items() if k not in ("weight", "output_weight", "seed")})
    if name == "model_options":
        taken = {*base.example_sizes, *(f.name for f in fields(base))}
        return _said({k: v for k, v in (model_options(base.model) | base.model_options).items() if k not in taken})
    return {"layer_weights": "none", "weights": "none, from chance", "tag": "what was changed"}.get(name)


def _said(options: Mapping[str, Any]) -> str:
    return " ".join(f"{k}={'none' if v is None else v}" for k, v in options.items()) or "there are none"


def _choices(domain: str) -> dict[str, list[str]]:
    from comhe.datasets import list_data
    from comhe.regularizers import list_regularizers
    from comhe.zoo import list_models, list_weights

    models = list_models(domain=domain)
    names = {"model": models, "data": list_data(domain), "regularizer": list_regularizers()}
    return names | {"weights": ["", *(name for name in list_weights() if name.split(".")[0] in models)]}

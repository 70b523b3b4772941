import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_type_hints

from tyro.conf import arg

from comhe.errors import UsageError
from comhe.train.engine.distributed import join_ranks
from comhe.train.recipe import Recipe, find_domain, get_recipe
from comhe.train.runs.interruption import torchrun_rank
from comhe.train.runs.launch import fit
from comhe.train.settings import parse_options, parse_weights
from comhe.train.start import model_of, with_start
from comhe.train.task import check_recipe
from comhe.zoo import model_domain

from .console import console, show_progress
from .options import Command, DataRoot, Device, Runs, Threads

OPTIONS = ("model_options", "regularizer_options")
NAMED = ("recipe", "model", "data", "regularizer")  # what the other flags' defaults depend on


@dataclass(frozen=True, kw_only=True)
class Train(Command):
    """Train one model; a run that was interrupted goes on, and one that is finished is left alone."""

    base: ClassVar[Recipe]

    shard_penalty: Annotated[bool, arg(help="under torchrun: each process computes some layers' penalties")] = False
    data_root: DataRoot = None
    runs: Runs = Path("runs")
    device: Device = "auto"
    threads: Threads = None

    def named_recipe(self) -> Recipe:
        """Return the recipe that the flags say; options are added to those of the named recipe."""
        values = {f.name: getattr(self, f.name) for f in fields(self.base) if hasattr(self, f.name)}
        for name in OPTIONS:
            values[name] = getattr(self.base, name) | parse_options(values[name])
        values["layer_weights"] = parse_weights(values["layer_weights"])
        return with_start(self.base.replace(**values))

    def run(self) -> None:
        recipe = self.named_recipe()
        check_recipe(recipe)
        is_first = torchrun_rank()[0] == 0
        with (
            join_ranks(self.device, self.shard_penalty) as (context, device),
            show_progress(f"{recipe.label} seed {recipe.seed}", "epoch", shown=is_first) as report,
        ):

            def progress(row: dict[str, Any], epochs: int) -> None:
                text = f"loss {row['loss']:.3f}  penalty {row['penalty']:.3f}  val {100 * row['val_accuracy']:.2f} %"
                report(row["epoch"] + 1, epochs, text)

            run = fit(recipe, runs=self.runs, root=self.data_root, device=device, progress=progress, context=context)
        if not is_first:
            return
        result = run.result()
        for which, title in (("last", "last epoch"), ("best", "validation-selected")):
            epoch, val, test = (result[which][name] for name in ("epoch", "val_accuracy", "test_accuracy"))
            console.print(f"{title} ({epoch + 1}): validation {100 * val:.2f} %, test {100 * test:.2f} %")
        console.print(f"{run.folder}  ({result['seconds']:.1f} s)")


def train_command(domain: str, argv: Sequence[str] = ()) -> type[Train]:
    """Return a domain's command: its recipe's fields, with the defaults of the recipe that ``argv`` names."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    kind = find_domain(domain).recipe
    usual = kind()
    for name in NAMED:
        early.add_argument(f"--{name}", default=None if name == "recipe" else getattr(usual, name))
    early.add_argument("--weights", default="")
    cell = vars(early.parse_known_args(argv)[0])
    if (weights := cell.pop("weights")) and "--model" not in argv:
        cell["model"] = model_of(weights, cell["model"])
    if (other := model_domain(cell["model"])) != domain:
        raise UsageError(f"{cell['model']} is a model for {other}; train it with: comhe train {other}")
    base = get_recipe(cell.pop("recipe"), **cell)
    hints = get_type_hints(kind)
    flags: list[tuple[str, Any, Any]] = []
    for f in fields(kind):
        if f.name in (*OPTIONS, "layer_weights"):
            texts = tuple(f"{name}={value}" for name, value in getattr(base, f.name).items())
            what = "NAME=VALUE ..." if f.name in OPTIONS else "LAYER=WEIGHT ..."
            help = arg(metavar=what, help=f.metadata["help"])
            flags.append((f.name, Annotated[tuple[str, ...], help], texts))
        elif f.name not in ("domain", "weights_digest"):  # which follow from others
            flags.append((f.name, Annotated[hints[f.name], arg(help=f.metadata["help"])], getattr(base, f.name)))
    namespace = {"base": base, "__doc__": f"{Train.__doc__} The defaults are those of the recipe {base.recipe!r}."}
    return make_dataclass("Train", flags, bases=(Train,), namespace=namespace, frozen=True, kw_only=True)

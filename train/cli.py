"""The command ``comhe``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from signal import SIGINT
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from .console import console, epochs, runs
from .flags import given, parse, recipe_flags, settings_of
from .interruption import started, terminable

CELL = ("model", "data", "regularizer")


@dataclass(frozen=True)
class Spread:
    """How several processes that torchrun has started make one run."""

    parallel: Annotated[
        Literal["ddp", "fsdp"],
        arg(help="under torchrun: the whole model on every process, or a part of every layer, for what does not fit"),
    ] = "ddp"
    shard_penalty: Annotated[
        bool, arg(help="under torchrun: each process computes the penalties of some of the layers")
    ] = False


@dataclass(frozen=True)
class Place:
    """Where things are and run; nothing that changes a result."""

    data_root: Annotated[str | None, arg(help="folder of the data sets; else $COMHE_DATA, else the user's cache")] = (
        None
    )
    runs: Annotated[Path, arg(help="folder of the run folders")] = Path("runs")
    device: Annotated[str, arg(help="cpu, cuda, cuda:1, ...; under torchrun cuda is each process's own")] = "cpu"


def train(domain: str, words: list[str]) -> None:
    """Train one model; a run that was cut is taken up again, one that is done is left alone."""
    from comhe.zoo import model_domain

    from .compare import train_one
    from .domains import named_recipe, recipe_class
    from .ranks import joined
    from .run import Run

    kind = recipe_class(domain)
    wanted = recipe_flags(kind)
    parts = [("settings", wanted, wanted()), ("place", Place, Place()), ("spread", Spread, Spread())]
    both = make_dataclass("Train", parts)
    flags = parse(both, words, f"comhe train {domain}", train.__doc__)
    settings = given(flags.settings)
    default = kind()
    name = settings.pop("recipe", None)
    cell = {key: settings.pop(key, getattr(default, key)) for key in CELL}
    if (other := model_domain(cell["model"])) != domain:
        raise ValueError(f"{cell['model']} is a model for {other}; train it with: comhe train {other}")
    recipe = named_recipe(name, **cell, **settings)
    spread = flags.spread
    with (
        joined(flags.place.device, spread.parallel, spread.shard_penalty) as device,
        epochs(f"{recipe.name} seed {recipe.seed}", shown=started()[0] == 0) as progress,
    ):
        folder = train_one(recipe, flags.place.runs, flags.place.data_root, device, progress)
    if started()[0]:
        return
    result = Run(folder).result()
    for which, title in (("last", "last epoch"), ("best", "validation-selected")):
        figures = result[which]
        console.print(
            f"{title} ({figures['epoch'] + 1}): validation {100 * figures['val_accuracy']:.2f} %, "
            f"test {100 * figures['test_accuracy']:.2f} %"
        )
    console.print(f"{folder}  ({result['seconds']:.1f} s)")


@dataclass(frozen=True)
class Compare:
    """Train models x data sets x regularizers x seeds, what is missing of them, and print the table."""

    models: Annotated[str, arg(help="comma-separated")] = "gcn"
    data: Annotated[str, arg(help="comma-separated")] = "cora,citeseer,pubmed"
    regularizers: Annotated[str, arg(help="comma-separated; differences are taken to `none`")] = "none,hs-mhe,rp-comhe"
    seeds: Annotated[int, arg(help="runs of each cell, seeds 0, 1, ...")] = 10
    recipe: Annotated[str | None, arg(help="recipes, comma-separated; else the usual one of the models' domain")] = None
    settings: Annotated[str, arg(help="other than the recipe's, as in `epochs=5,precision=bf16`")] = ""
    jobs: Annotated[int, arg(help="processes at once; with --device cuda they take turns on the GPUs")] = (
        os.cpu_count() or 1
    )
    output: Annotated[
        Path | None,
        arg(help="folder for tables (CSV, Markdown), every run and its curves (CSV); runs in it are not made again"),
    ] = None
    place: Place = field(default_factory=Place)


def compare(words: list[str]) -> None:
    """Compare models, data sets and regularizers over seeds."""
    from comhe.zoo import model_domain

    from .compare import collect as collect_runs
    from .compare import known_records, run_folder, save, table, train_all
    from .curves import save_curves
    from .domains import named_recipe, recipe_class

    flags = parse(Compare, words, "comhe compare", Compare.__doc__)
    if flags.seeds < 1 or flags.jobs < 1:
        raise ValueError(f"seeds and jobs must be at least 1, not {flags.seeds} and {flags.jobs}")
    place = flags.place
    kind = recipe_class(model_domain(flags.models.split(",")[0]))
    changes = settings_of(kind, flags.settings, "comhe compare", leave_out=CELL)
    for recipe_name in flags.recipe.split(",") if flags.recipe else [None]:
        recipes = [
            named_recipe(recipe_name, model, data, regularizer, seed=seed, **changes)
            for data in flags.data.split(",")  # seeds inside data sets: an early look finds whole pairs
            for seed in range(flags.seeds)
            for model in flags.models.split(",")
            for regularizer in flags.regularizers.split(",")
        ]
        recipe_name = recipes[0].recipe
        known = {} if flags.output is None else known_records(flags.output / f"{recipe_name}-runs.csv")
        wanted = [recipe for recipe in recipes if recipe.digest not in known]
        with runs(recipe_name) as progress:
            failures = train_all(wanted, place.runs, place.data_root, place.device, flags.jobs, progress)
        records = collect_runs(recipes, place.runs, known)
        if records:
            rows = table(records)
            show(rows, recipe_name)
            if flags.output is not None:
                save(flags.output, recipe_name, records, rows)
                if len({(recipe.model, recipe.data) for recipe in recipes}) == 1:
                    folders = ((r.regularizer, r.seed, run_folder(place.runs, r)) for r in recipes)
                    save_curves(flags.output, recipe_name, folders)
        if failures:
            raise ValueError(f"{len(failures)} of {len(recipes)} runs failed; the first: {failures[0]}")


def show(rows: list, title: str) -> None:
    """The tables on the terminal."""
    from .compare import views

    for what, header, cells in views(rows):
        print_table(f"{title}, {what}", header, cells)


def print_table(title: str, header: list[str], cells: list[list[str]]) -> None:
    """A table whose first three columns are names and whose others are figures."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in header:
        shown.add_column(name, justify="left" if name in header[:3] else "right", no_wrap=True)
    for line in cells:
        shown.add_row(*line)
    console.print(shown)


@dataclass(frozen=True)
class Reproduce:
    """Work through one of the poster's tables, and print our figures beside the published ones."""

    table: Annotated[Positional[str], arg(help="gcn, cnn-depth, cifar, pointnet or imagenet")]
    seeds: Annotated[int, arg(help="runs of each cell, seeds 0, 1, ...")] = 5
    budget: Annotated[str | None, arg(help="time after which runs are cut, to be gone on with: 90s, 20m, 1.5h")] = None
    recipe: Annotated[str | None, arg(help="else the table's own")] = None
    settings: Annotated[str, arg(help="other than the recipe's, as in `epochs=5,precision=bf16`")] = ""
    jobs: Annotated[int, arg(help="processes at once; with --device cuda they take turns on the GPUs")] = 1
    place: Place = field(default_factory=Place)


def reproduce(words: list[str]) -> None:
    """Reproduce a table of the poster."""
    from comhe.zoo import model_domain

    from .compare import train_all
    from .domains import recipe_class
    from .reproduce import HEADER, PUBLISHED, beside, cells, recipes, seconds_of

    flags = parse(Reproduce, words, "comhe reproduce", Reproduce.__doc__)
    if flags.seeds < 1 or flags.jobs < 1:
        raise ValueError(f"seeds and jobs must be at least 1, not {flags.seeds} and {flags.jobs}")
    place = flags.place
    kind = recipe_class(model_domain(cells(flags.table)[0].model))
    changes = settings_of(kind, flags.settings, "comhe reproduce", leave_out=CELL)
    wanted = recipes(flags.table, flags.seeds, flags.recipe, **changes)
    seconds = None if flags.budget is None else seconds_of(flags.budget)
    with runs(flags.table) as progress:
        failures = train_all(wanted, place.runs, place.data_root, place.device, flags.jobs, progress, seconds)
    title = f"{PUBLISHED[flags.table]['title']}, test, percent; recipe {wanted[0].recipe}"
    print_table(title, HEADER, beside(flags.table, wanted, place.runs))
    if failures:
        raise ValueError(f"{len(failures)} of {len(wanted)} runs failed; the first: {failures[0]}")


@dataclass(frozen=True)
class Report:
    """Write one page, which needs no network, with the table and the plots of runs."""

    runs: Annotated[Positional[tuple[Path, ...]], arg(help="folders with run folders at any depth, or *-runs.csv")]
    output: Annotated[Path, arg(aliases=["-o"], help="the page")] = Path("page.html")
    figures: Annotated[Path | None, arg(help="folder for every figure as an SVG file")] = None


def report(words: list[str]) -> None:
    """Write a page on runs."""
    from .page import Page
    from .report import gather

    flags = parse(Report, words, "comhe report", Report.__doc__)
    if not flags.runs:
        raise ValueError("name at least one folder of runs, or a *-runs.csv")
    found = gather(flags.runs)
    page = Page(found)
    flags.output.write_text(page.html(), encoding="utf-8")
    if flags.figures is not None:
        console.print(f"{flags.figures}: {page.save_figures(flags.figures)} figures")
    console.print(f"{flags.output}: {len(found.records)} runs, {found.unfinished} unfinished left out")


@dataclass(frozen=True)
class Evaluate:
    """Evaluate pretrained weights, or those of a run folder, again."""

    source: Annotated[Positional[str], arg(help="a name of `comhe list weights`, a published file, or a run folder")]
    data: Annotated[str | None, arg(help="another data set than theirs, with the same features and classes")] = None
    weights: Annotated[Literal["last", "best"], arg(help="which of a run's weights")] = "best"
    place: Place = field(default_factory=Place)


def evaluate(words: list[str]) -> None:
    """Evaluate pretrained weights or a run's; beside the former stands what their card says."""
    from comhe.zoo import get_weights

    from .publish import evaluate_run, evaluate_weights
    from .run import Run

    flags = parse(Evaluate, words, "comhe evaluate", Evaluate.__doc__)
    place = (flags.place.data_root, flags.place.device)
    said: dict = {}
    if Path(flags.source).is_dir():
        name, found = evaluate_run(Run(flags.source), flags.weights, flags.data, *place)
    else:
        try:
            weights = get_weights(flags.source)
        except ValueError as error:
            raise ValueError(f"{flags.source!r} is not a run folder, and {error}") from error
        name, found = evaluate_weights(weights, flags.data, *place)
        if flags.data is None:
            said = weights.card["metrics"]
    for split, figures in found.items():
        told = ""
        if said:
            equal = figures["accuracy"] == said[split]["accuracy"]
            told = ", as its card says" if equal else f"; its card says {100 * said[split]['accuracy']:.2f} %"
        console.print(
            f"{name} {split}: accuracy {100 * figures['accuracy']:.2f} %, loss {figures['loss']:.4f}{told}",
            soft_wrap=True,
        )


@dataclass(frozen=True)
class Publish:
    """Make pretrained weights of runs of one recipe: the best seed's, on validation, and a card over all seeds."""

    folders: Annotated[Positional[tuple[Path, ...]], arg(help="run folders, one a seed")]
    output: Annotated[Path, arg(help="folder for the weights and the card; zoo/pretrained for those of the package")]
    suffix: Annotated[str, arg(help="put behind the name, where one recipe is not enough")] = ""
    place: Place = field(default_factory=Place)


def publish(words: list[str]) -> None:
    """Publish runs as pretrained weights."""
    from comhe.zoo import get_weights

    from .publish import publish as publish_runs
    from .run import Run

    flags = parse(Publish, words, "comhe publish", Publish.__doc__)
    runs = [Run(folder) for folder in flags.folders]
    path = publish_runs(runs, flags.output, flags.suffix, flags.place.data_root, flags.place.device)
    card = get_weights(path).card
    seeds = card["seeds"]["best"]["test_accuracy"]
    spread = "" if seeds["std"] is None else f" ± {100 * seeds['std']:.2f}"
    console.print(
        f"{card['name']}: test {100 * card['metrics']['test']['accuracy']:.2f} % (seed {card['seed']}; "
        f"{100 * seeds['mean']:.2f}{spread} % over {card['seeds']['n']}), {card['bytes'] / 1e6:.2f} MB",
        soft_wrap=True,
    )


@dataclass(frozen=True)
class Energy:
    """How the neurons of each layer lie on the sphere: energies, angles, coherence, effective rank, dead neurons."""

    source: Annotated[
        Positional[str], arg(help="a run folder, a file with a state dict, or the name of weights or a model")
    ]
    weights: Annotated[Literal["last", "best"], arg(help="which of a run's weights")] = "best"
    data: Annotated[str, arg(help="for a model's name: the data set that gives inputs and classes")] = "citations"
    seed: Annotated[int, arg(help="for a model's name: of the initialisation")] = 0
    place: Place = field(default_factory=Place)


def energy(words: list[str]) -> None:
    """Print each layer's diagnostics."""
    from .energy import layers_of, print_diagnostics

    flags = parse(Energy, words, "comhe energy", Energy.__doc__)
    print_diagnostics(layers_of(flags.source, flags.weights, flags.data, flags.seed, flags.place.data_root))


@dataclass(frozen=True)
class Data:
    """Fetch a data set where it is not on disk, verify it, and describe it."""

    name: Annotated[Positional[str], arg(help="a name of `comhe list datasets`")]
    domain: Annotated[Literal["images", "points", "graphs"] | None, arg(help="points for a folder of shapes")] = None
    place: Place = field(default_factory=Place)


def data(words: list[str]) -> None:
    """Fetch, verify and describe a data set."""
    from comhe.datasets import describe, load_data

    flags = parse(Data, words, "comhe data", Data.__doc__)
    for key, value in describe(load_data(flags.name, flags.place.data_root, flags.domain)).items():
        console.print(f"{key:15} {value}")


@dataclass(frozen=True)
class List:
    """Names of what there is."""

    what: Positional[Literal["models", "datasets", "regularizers", "recipes", "weights"]]
    pattern: Positional[str] = "*"


def list_names(words: list[str]) -> None:
    """List models, datasets, regularizers, recipes or pretrained weights."""
    flags = parse(List, words, "comhe list", List.__doc__)
    if flags.what == "models":
        from comhe.zoo import list_models as names
    elif flags.what == "datasets":
        from comhe.datasets import list_data as names
    elif flags.what == "regularizers":
        from comhe.regularizers import list_regularizers as names
    elif flags.what == "recipes":
        from .domains import all_recipe_names as names
    else:
        from comhe.zoo import list_weights

        print(*list_weights(flags.pattern), sep="\n")  # also those of a model that matches
        return
    for name in names():
        if fnmatchcase(name, flags.pattern):
            print(name)


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train images": lambda words: train("images", words),
    "train points": lambda words: train("points", words),
    "train graphs": lambda words: train("graphs", words),
    "compare": compare,
    "reproduce": reproduce,
    "report": report,
    "evaluate": evaluate,
    "publish": publish,
    "energy": energy,
    "data": data,
    "list": list_names,
}


def main(words: list[str] | None = None) -> int:
    """Run one command; a mistake of the user's is one line on standard error and exit status 2."""
    words = sys.argv[1:] if words is None else words
    for command, function in COMMANDS.items():
        parts = command.split()
        if words[: len(parts)] == parts:
            if started()[1] > 1 and parts[0] != "train":
                print(f"comhe: torchrun is for comhe train, not for comhe {command}", file=sys.stderr)
                return 2
            return guarded(function, words[len(parts) :])
    usage = "usage: comhe COMMAND ... (COMMAND --help tells more)\n" + "\n".join(f"  comhe {name}" for name in COMMANDS)
    asked = bool(words) and words[0] in ("-h", "--help")
    print(usage if asked or not words else f"comhe: no command {' '.join(words[:2])!r}\n{usage}", file=sys.stderr)
    return 0 if asked else 2


def guarded(function: Callable[[list[str]], None], words: list[str]) -> int:
    """Call a command and turn what a user can mend into one line; COMHE_TRACEBACK=1 shows the whole story.

    SIGINT and SIGTERM are one line too, and exit status 130 and 143. One of several ranks says which it is.
    """
    rank, size = started()
    name = f"comhe: rank {rank} of {size}" if size > 1 else "comhe"
    try:
        with terminable():
            function(words)
    except KeyboardInterrupt as stopped:
        print(f"{name}: {str(stopped) or 'stopped'}", file=sys.stderr)
        return 128 + getattr(stopped, "signum", SIGINT)
    except (ValueError, TypeError, OSError, FloatingPointError) as error:
        if os.environ.get("COMHE_TRACEBACK"):
            raise
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

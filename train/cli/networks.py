"""``comhe evaluate``, ``comhe publish`` and ``comhe energy``: trained networks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from .console import console
from .flags import Place, parse


@dataclass(frozen=True)
class Evaluate:
    """Evaluate pretrained weights, or those of a run folder, again."""

    source: Annotated[Positional[str], arg(help="a name of `comhe list weights`, a published file, or a run folder")]
    data: Annotated[str | None, arg(help="another data set than theirs, with the same features and classes")] = None
    weights: Annotated[Literal["last", "best"], arg(help="which of a run's weights")] = "best"
    place: Place = field(default_factory=Place)


def evaluate(words: list[str]) -> None:
    """Evaluate pretrained weights or a run's; beside the former stands what their card says."""
    from comhe.train.compare.publish import evaluate_run, evaluate_weights
    from comhe.train.runs.run import Run
    from comhe.zoo import get_weights

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
    from comhe.train.compare.publish import publish as publish_runs
    from comhe.train.runs.run import Run
    from comhe.zoo import get_weights

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
    from .energy_of import layers_of, print_diagnostics

    flags = parse(Energy, words, "comhe energy", Energy.__doc__)
    print_diagnostics(layers_of(flags.source, flags.weights, flags.data, flags.seed, flags.place.data_root))

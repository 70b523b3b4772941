"""Choose settings on validation accuracy: ``python -m comhe.train.compare.search``. It never looks at the test split.

For each data set and regularizer the same number of trials is drawn from the recipe's space, with a generator seeded by
the cell's name. Every trial is run with ``first`` seeds; the ``finalists`` best of them get ``more`` seeds; the best
mean of validation accuracy (at each run's validation-selected epoch) over all its seeds is chosen. The seeds start at
1000, so that none of them is one of the seeds 0, 1, ... that a table is made of.
"""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from comhe.train.cli.console import runs as progress_of_runs
from comhe.train.cli.flags import Place, parse
from comhe.train.graphs import CHOICES, base_recipe
from comhe.train.recipe import Recipe
from comhe.train.runs.files import write_text
from comhe.train.runs.launch import train_all

from .compare import collect, write_csv
from .statistics import mean_std

FIRST_SEED = 1000

# Only what the regularizer brings along: `kipf` keeps everything else as published.
REGULARIZER_SPACE: dict[str, tuple[Any, ...]] = {
    "weight": (0.1, 0.3, 1.0, 3.0, 10.0),
    "output_weight": (0.0, 0.1, 0.3, 1.0, 3.0, 10.0),
}
TRAINING_SPACE: dict[str, tuple[Any, ...]] = {
    "hidden_channels": (16, 32, 64),
    "dropout": (0.5, 0.6, 0.7, 0.8),
    "lr": (0.005, 0.01, 0.02),
    "weight_decay": (5e-4, 1e-3, 2e-3),
    "epochs": (200, 400),
}
OPTION_SPACE: dict[str, dict[str, tuple[Any, ...]]] = {
    "rp-comhe": {"dim": (10, 20, 40), "redraw": (1, 10)},
    "ap-comhe": {"rate": (0.1, 1.0), "mode": ("both", "alternating")},
}


@dataclass(frozen=True)
class Search:
    """Choose the settings of a recipe on validation accuracy and write them where the recipe reads them."""

    recipe: Annotated[str, arg(help="kipf: the regularizer's settings only; tuned: all settings")] = "kipf"
    data: Annotated[str, arg(help="comma-separated")] = "cora,citeseer,pubmed"
    regularizers: Annotated[str, arg(help="comma-separated")] = "none,hs-mhe,rp-comhe,ap-comhe"
    trials: Annotated[int, arg(help="settings drawn for each cell")] = 24
    first: Annotated[int, arg(help="seeds that every trial is run with")] = 2
    finalists: Annotated[int, arg(help="trials that are run with more seeds")] = 4
    more: Annotated[int, arg(help="how many more")] = 8
    jobs: Annotated[int, arg(help="processes at once")] = os.cpu_count() or 1
    output: Annotated[Path, arg(help="folder for the table of all trials")] = Path("results/graphs")
    place: Place = field(default_factory=Place)


def draw(recipe: str, data: str, regularizer: str, trials: int) -> list[Recipe]:
    """The cell's trials, all different, a function of the names alone."""
    base = base_recipe(recipe, "gcn", data, regularizer)
    space = dict(TRAINING_SPACE) if recipe == "tuned" else {}
    options = OPTION_SPACE.get(regularizer, {})
    if regularizer != "none":
        space |= REGULARIZER_SPACE
    source = random.Random(f"{recipe}.{data}-{regularizer}")
    found: list[Recipe] = []
    for _ in range(100 * trials):
        changes = {name: source.choice(values) for name, values in space.items()}
        drawn = {name: source.choice(values) for name, values in options.items()}
        candidate = base.replace(**changes, regularizer_options={**base.regularizer_options, **drawn})
        if candidate not in found:
            found.append(candidate)
        if len(found) == trials:
            break
    return [trial.replace(recipe=f"search-{recipe}-{i}") for i, trial in enumerate(found)]


def main(words: list[str] | None = None) -> None:
    """Search, write ``search-RECIPE.csv`` and update the choices."""
    flags = parse(Search, words, "python -m comhe.train.compare.search", Search.__doc__)
    place = flags.place

    def run(trials: list[Recipe], seeds: range) -> list[dict[str, Any]]:
        recipes = [trial.replace(seed=FIRST_SEED + seed) for trial in trials for seed in seeds]
        with progress_of_runs(f"search {flags.recipe}") as progress:
            failures = train_all(recipes, place.runs, place.data_root, place.device, flags.jobs, progress)
        if failures:
            raise RuntimeError(failures[0])
        return collect(recipes, place.runs)

    cells = [(data, name) for data in flags.data.split(",") for name in flags.regularizers.split(",")]
    trials = {cell: draw(flags.recipe, *cell, flags.trials) for cell in cells}
    records = run([trial for found in trials.values() for trial in found], range(flags.first))
    finalists = {cell: _best(found, records)[: flags.finalists] for cell, found in trials.items()}
    everyone = [trial for found in finalists.values() for trial in found]
    records += run(everyone, range(flags.first, flags.first + flags.more))

    choices = json.loads(CHOICES.read_text())
    rows = []
    for cell, found in trials.items():
        chosen = _best(finalists[cell], records)[0]
        for trial in _best(found, records):
            values = _values(trial, records)
            settings = _settings(trial, base_recipe(flags.recipe, "gcn", *cell))
            rows.append(
                {
                    "data": cell[0],
                    "regularizer": cell[1],
                    "trial": trial.recipe.rsplit("-", 1)[1],
                    "n": len(values),
                    "val": mean_std(values)[0],
                    "std": mean_std(values)[1],
                    "chosen": "yes" if trial == chosen else "",
                    "settings": json.dumps(settings),
                }
            )
            if trial == chosen:
                choices.setdefault(flags.recipe, {})[trial.name] = settings
    write_csv(flags.output / f"search-{flags.recipe}.csv", rows)
    write_text(CHOICES, json.dumps(choices, indent=2, sort_keys=True) + "\n")


def _values(trial: Recipe, records: list[dict[str, Any]]) -> list[float]:
    key = (trial.recipe, trial.data, trial.regularizer)
    return [r["best_val"] for r in records if (r["recipe"], r["data"], r["regularizer"]) == key]


def _best(trials: list[Recipe], records: list[dict[str, Any]]) -> list[Recipe]:
    """The trials by mean validation accuracy, best first."""
    return sorted(trials, key=lambda trial: -mean_std(_values(trial, records))[0])


def _settings(trial: Recipe, base: Recipe) -> dict[str, Any]:
    """What the trial says other than the base recipe does."""
    changed = {name: value for name, value in vars(trial).items() if value != getattr(base, name)}
    return {name: value for name, value in changed.items() if name not in ("recipe", "seed")}


if __name__ == "__main__":
    main()

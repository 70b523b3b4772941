"""Choose settings on validation accuracy: ``python -m comhe.train.compare.search``. The test split is never evaluated.

For each data set and regularizer the same number of trials is drawn, with a generator seeded by the cell's name. Each
is run with ``first`` seeds, the ``finalists`` best of them with ``more``; the best mean over all seeds is chosen.
"""

import csv
import json
import math
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import arg

from comhe.errors import RunError
from comhe.regularizers import regularizer_options
from comhe.train.choices import CHOICES, base_recipe
from comhe.train.cli.console import show_progress
from comhe.train.cli.main import guarded
from comhe.train.cli.options import DataRoot, Device, Jobs, Runs
from comhe.train.recipe import Recipe
from comhe.train.runs.files import write_csv, write_text
from comhe.train.runs.launch import train_all

from .compare import collect, split_names
from .records import Record
from .statistics import mean_std

Space = dict[str, tuple[Any, ...]]
FIRST_SEED = 1000  # none of the seeds 0, 1, ... of a table

# All recipes but these search the settings of the regularizer only; a network without one has none.
TRAINED = ("tuned", "few_labels", "noisy_labels", "deep")
# Weights by domain; what a domain does not name is searched as for images.
WEIGHTS = (0.1, 0.3, 1.0, 3.0, 10.0)
IMAGE_SPACE: Space = {"weight": WEIGHTS, "output_weight": (0.0, 1.0, 10.0, 100.0)}
REGULARIZER_SPACE: dict[str, Space] = {"graphs": {"weight": WEIGHTS, "output_weight": (0.0, *WEIGHTS)}}
SMALL = (1e-5, 1e-4, 1e-3, 0.01, 0.1)  # of penalties whose default is below: sums and norms of all that deviates
TRAINING_SPACE: dict[str, Space] = {
    "graphs": {
        "hidden_channels": (16, 32, 64),
        "dropout": (0.5, 0.6, 0.7, 0.8),
        "lr": (0.005, 0.01, 0.02),
        "weight_decay": (5e-4, 1e-3, 2e-3),
        "epochs": (200, 400),
    },
    "images": {
        "lr": (0.01, 0.03, 0.1),
        "weight_decay": (5e-4, 2e-3, 5e-3),
        "epochs": (40, 80),
        "label_smoothing": (0.0, 0.1),
    },
    "points": {
        "lr": (5e-4, 1e-3, 2e-3),
        "weight_decay": (0.05, 0.2),
        "epochs": (60, 120),
        "label_smoothing": (0.0, 0.2),
    },
}
OPTION_SPACE: dict[str, Space] = {  # for graphs
    "rp-comhe": {"dim": (10, 20, 40), "redraw": (1, 10)},
    "ap-comhe": {"rate": (0.1, 1.0), "mode": ("both", "alternating")},
}


@dataclass(frozen=True)
class Search:
    """Choose the settings of a recipe on validation accuracy and write them where the recipe reads them."""

    recipe: Annotated[
        str, arg(help="all settings of tuned, few_labels, noisy_labels and deep; of others, the regularizer's")
    ] = "kipf"
    model: Annotated[str, arg(help="a name of `comhe list models`")] = "gcn"
    data: Annotated[str, arg(help="comma-separated")] = "cora,citeseer,pubmed"
    regularizers: Annotated[str, arg(help="comma-separated")] = "none,hs-mhe,rp-comhe,ap-comhe"
    trials: Annotated[int, arg(help="settings drawn for each cell")] = 24
    first: Annotated[int, arg(help="seeds that every trial is run with")] = 2
    finalists: Annotated[int, arg(help="trials that are run with more seeds")] = 4
    more: Annotated[int, arg(help="number of these further seeds")] = 8
    jobs: Jobs = None
    output: Annotated[Path, arg(help="folder for the table of all trials")] = Path("results/graphs")
    data_root: DataRoot = None
    runs: Runs = Path("runs")
    device: Device = "auto"

    def run(self) -> None:
        cells = [(data, name) for data in split_names(self.data) for name in split_names(self.regularizers)]
        trials = {cell: draw(self.recipe, self.model, *cell, self.trials) for cell in cells}
        records = self._train([trial for found in trials.values() for trial in found], range(self.first))
        finalists = {cell: _best(found, records)[: self.finalists] for cell, found in trials.items()}
        rerun = [trial for found in finalists.values() for trial in found]
        records += self._train(rerun, range(self.first, self.first + self.more))
        choices = json.loads(CHOICES.read_text())
        row: dict[str, Any]
        rows: list[dict[str, Any]] = []
        for cell, found in trials.items():
            chosen = next(iter(_best(finalists[cell], records)), None)
            base = vars(base_recipe(self.recipe, self.model, *cell))
            for trial in sorted(_best(found, records), key=lambda trial: -mean_std(_values(trial, records))[0]):
                mean, std = mean_std(values := _values(trial, records))
                settings = {k: v for k, v in vars(trial).items() if v != base[k] and k not in ("tag", "seed")}
                row = {
                    "model": trial.model,
                    "data": trial.data,
                    "regularizer": trial.regularizer,
                    "trial": trial.tag.removeprefix("search-"),
                }
                row |= {"n": len(values), "val": mean, "std": std, "chosen": "yes" if trial == chosen else ""}
                rows.append(row | {"settings": json.dumps(settings)})
                if trial == chosen:
                    choices.setdefault(self.recipe, {})[trial.name] = settings
        searched = {(row["model"], row["data"], row["regularizer"]) for row in rows}
        table = self.output / f"search-{self.recipe}.csv"
        before = csv.DictReader(table.read_text().splitlines()) if table.exists() else ()
        others = ({"model": self.model} | row for row in before)  # older tables are of one model
        kept = [row for row in others if (row["model"], row["data"], row["regularizer"]) not in searched]
        write_csv(table, kept + rows)
        write_text(CHOICES, json.dumps(choices, indent=2, sort_keys=True) + "\n")
        if failed := [f"{name} on {data}" for data, name in cells if (self.model, data, name) not in searched]:
            raise RunError(f"every trial of {', '.join(failed)} failed; nothing was chosen there")

    def _train(self, trials: list[Recipe], seeds: range) -> list[Record]:
        recipes = [trial.replace(seed=FIRST_SEED + seed) for trial in trials for seed in seeds]
        with show_progress(f"search {self.recipe}", "run") as progress:  # which also shows what failed
            train_all(recipes, self.runs, self.data_root, self.device, self.jobs, progress)
        return collect(recipes, self.runs)


def draw(recipe: str, model: str, data: str, regularizer: str, trials: int) -> list[Recipe]:
    """Return the cell's trials, all different; they depend on the names alone."""
    base = base_recipe(recipe, model, data, regularizer)
    space = dict(TRAINING_SPACE[base.domain]) if recipe in TRAINED else {}
    options = OPTION_SPACE.get(regularizer, {}) if base.domain == "graphs" else {}
    if regularizer != "none":
        small: Space = {"weight": SMALL, "output_weight": (0.0, *SMALL)}
        is_small = regularizer_options(regularizer)["weight"] < min(WEIGHTS)
        space |= small if is_small else REGULARIZER_SPACE.get(base.domain, IMAGE_SPACE)
    choices = [*space.items(), *options.items()]
    source = random.Random(f"{recipe}.{data}-{regularizer}")  # not of the model: graphs had one
    found: dict[tuple[tuple[str, Any], ...], None] = {}
    while len(found) < min(trials, math.prod(len(values) for _, values in choices)):
        found[tuple((name, source.choice(values)) for name, values in choices)] = None
    return [
        base.replace(
            **dict(each[: len(space)]),
            regularizer_options=base.regularizer_options | dict(each[len(space) :]),
            tag=f"search-{i}",
        )
        for i, each in enumerate(found)
    ]


def _values(trial: Recipe, records: list[Record]) -> list[float]:
    key = (trial.data, trial.regularizer, trial.tag)
    return [r["best_val"] for r in records if (r["data"], r["regularizer"], r["variant"]) == key]


def _best(trials: list[Recipe], records: list[Record]) -> list[Recipe]:
    """The trials of which runs ended, the best mean first; one that diverged with some seeds comes after the others."""
    values = {trial.tag: _values(trial, records) for trial in trials}
    ended = [trial for trial in trials if values[trial.tag]]
    return sorted(ended, key=lambda trial: (-len(values[trial.tag]), -mean_std(values[trial.tag])[0]))


def main(argv: list[str] | None = None) -> int:
    return guarded(lambda words: tyro.cli(Search, args=words, prog="python -m comhe.train.compare.search").run(), argv)


if __name__ == "__main__":
    sys.exit(main())

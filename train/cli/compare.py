"""``comhe compare``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from comhe.errors import RunError
from comhe.train.compare.compare import check, plan, run_comparison
from comhe.train.compare.tables import Row, views
from comhe.train.recipe import recipe_class
from comhe.train.settings import parse_settings
from comhe.zoo import model_domain

from .console import print_table, run_progress
from .options import Command, DataRoot, Device, FirstSeed, Jobs, Runs, Seeds, Settings


@dataclass(frozen=True, kw_only=True)
class Compare(Command):
    """Train models x data sets x regularizers x settings x seeds, as far as runs are missing, and print the tables.

    A setting with several values is a sweep: --settings weight=0.1,1 dim=30,40 epochs=5
    """

    models: Annotated[str, arg(help="comma-separated")] = "gcn"
    data: Annotated[str, arg(help="comma-separated")] = "cora,citeseer,pubmed"
    regularizers: Annotated[str, arg(help="comma-separated; differences are taken to `none`")] = "none,hs-mhe,rp-comhe"
    seeds: Seeds = 10
    first_seed: FirstSeed = 0
    recipe: Annotated[str | None, arg(help="comma-separated; by default the usual one of the models' domain")] = None
    settings: Settings = ()
    jobs: Jobs = os.cpu_count() or 1
    output: Annotated[
        Path | None, arg(help="folder of the tables (CSV, JSON, Markdown); runs listed in it are not repeated")
    ] = None
    data_root: DataRoot = None
    runs: Runs = Path("runs")
    device: Device = "cpu"

    def run(self) -> None:
        """Train what is missing and print the tables of each recipe."""
        kind = recipe_class(model_domain(self.models.split(",")[0].strip()))
        settings = parse_settings(" ".join(self.settings), kind)
        names = self.recipe.split(",") if self.recipe else [None]
        plans = [
            plan(
                self.models,
                self.data,
                self.regularizers,
                self.seeds,
                first_seed=self.first_seed,
                recipe=name,
                settings=settings,
            )
            for name in names
        ]
        folders = [self.runs, *([] if self.output is None else [self.output])]
        check([recipe for recipes in plans for recipe in recipes], self.device, self.jobs, folders)
        for recipes in plans:
            with run_progress(recipes[0].recipe) as progress:
                comparison = run_comparison(
                    recipes,
                    self.runs,
                    self.data_root,
                    self.device,
                    self.jobs,
                    self.output,
                    self.modules,
                    progress,
                )
            show(comparison.rows, comparison.name)
            if comparison.failures:
                count, first = len(comparison.failures), comparison.failures[0]
                raise RunError(f"{count} of {len(recipes)} runs failed; the first: {first}")


def show(rows: Sequence[Row], title: str) -> None:
    """Print the tables of some rows."""
    for table in views(rows) if rows else ():
        print_table(f"{title}, {table.title}", table.header, table.cells)

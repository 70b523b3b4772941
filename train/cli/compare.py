from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from comhe.errors import RunError
from comhe.train.compare.compare import check, compare, known_records, plan
from comhe.train.compare.tables import views
from comhe.train.recipe import find_domain
from comhe.train.settings import parse_settings
from comhe.zoo import model_domain

from .commands import print_commands
from .console import console, print_table, show_progress
from .options import Jobs, ManyRuns


@dataclass(frozen=True, kw_only=True)
class Compare(ManyRuns):
    """Train models x data sets x regularizers x settings x seeds, as far as runs are missing, and print the tables.

    A setting with several values is a sweep: --settings weight=0.1,1 dim=30,40 epochs=5
    """

    models: Annotated[str, arg(help="comma-separated")] = "gcn"
    data: Annotated[str, arg(help="comma-separated")] = "cora,citeseer,pubmed"
    regularizers: Annotated[str, arg(help="comma-separated; differences are taken to `none`")] = "none,hs-mhe,rp-comhe"
    seeds: Annotated[int, arg(help="runs of each cell, one for each seed")] = 10
    recipe: Annotated[str | None, arg(help="comma-separated; by default the usual one of the models' domain")] = None
    jobs: Jobs = None
    output: Annotated[Path | None, arg(help="folder of the tables; runs that are listed in it are not repeated")] = None

    def run(self) -> None:
        kind = find_domain(model_domain(self.models.split(",")[0].strip())).recipe
        settings = parse_settings(" ".join(self.settings), kind)
        if self.print_commands:
            seeds = range(self.first_seed, self.first_seed + self.seeds)
            recipes = plan(self.models, self.data, self.regularizers, seeds, self.recipe, settings)
            check(recipes, "cpu", self.jobs)
            known = known_records(recipes, self.output)
            return print_commands(self, [recipe for recipe in recipes if recipe.digest not in known])
        options = {name: getattr(self, name) for name in ("first_seed", "recipe", "runs", "device", "jobs", "output")}
        options |= {"settings": settings, "root": self.data_root, "plugins": self.modules}
        options["cluster"] = self.jobs_of_cluster()
        with show_progress("compare", "run") as progress:
            found = compare(self.models, self.data, self.regularizers, self.seeds, progress=progress, **options)
        for name, rows in found.rows.items():
            for table in views(rows):
                print_table(f"{name}, {table.title}", table.header, table.cells)
        if left := len(found.recipes) - len(found.records) - len(found.failures):
            console.print(f"{left} runs are not done yet; the same command without --submit-only waits for their jobs")
        if failures := found.failures:
            raise RunError(f"{len(failures)} of {len(found.recipes)} runs failed; the first: {failures[0]}")

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from comhe.errors import RunError

from .console import print_table, show_progress
from .options import Group, ManyRuns, Seeds, print_json

CELLS = Group("what is compared")


@dataclass(frozen=True, kw_only=True)
class Compare(ManyRuns):
    """Compare models, data sets, regularizers and settings over seeds: train the runs that are missing, print tables.

    A setting with several values is a sweep, of which all combinations are trained. Runs that are done are found, and
    those that were cut go on.
    """

    examples = (
        "comhe compare --models gcn,gat --data cora --regularizers none,rp-comhe",
        "comhe compare --data cora --settings weight=0.1,1 dim=30,40 epochs=100",
        "comhe compare --models dgcnn --data modelnet40 --settings k=10,20 --output tables",
    )

    models: Annotated[str, arg(metavar="NAME,...", help="names of `comhe list models`"), CELLS] = "gcn"
    data: Annotated[str, arg(metavar="NAME,...", help="names of `comhe list datasets`"), CELLS] = "cora,citeseer,pubmed"
    regularizers: Annotated[
        str, arg(metavar="NAME,...", help="names of `comhe list regularizers`; differences are taken to `none`"), CELLS
    ] = "none,hs-mhe,rp-comhe"
    recipe: Annotated[
        str | None,
        arg(
            metavar="NAME,...",
            help="names of `comhe list recipes`",
            help_behavior_hint="modern for images and points, kipf for graphs",
        ),
        CELLS,
    ] = None
    seeds: Seeds = 10
    output: Annotated[
        Path | None,
        arg(
            metavar="FOLDER",
            help="where to write the tables as CSV, JSON and Markdown; runs that are listed there stay, and are not "
            "repeated",
            help_behavior_hint="only print them",
        ),
    ] = None

    def run(self) -> None:
        from comhe.train.compare.compare import check, compare, known_records, plan
        from comhe.train.compare.tables import views
        from comhe.train.recipe import find_domain
        from comhe.train.settings import parse_settings
        from comhe.zoo import model_domain

        from .commands import print_commands

        kind = find_domain(model_domain(self.models.split(",")[0].strip())).recipe
        settings = parse_settings(" ".join(self.settings), kind)
        if self.print_commands:
            seeds = range(self.first_seed, self.first_seed + self.seeds)
            recipes = plan(self.models, self.data, self.regularizers, seeds, self.recipe, settings)
            check(recipes, "cpu", self.jobs)
            known = known_records(recipes, self.output)
            return print_commands(self, [recipe for recipe in recipes if recipe.digest not in known])
        names = ("first_seed", "recipe", "runs", "device", "jobs", "output", "tensorboard")
        options = {name: getattr(self, name) for name in names}
        options |= {"settings": settings, "root": self.data_root, "plugins": self.modules}
        options["cluster"] = self.jobs_of_cluster()
        with show_progress("compare", "run") as progress:
            found = compare(self.models, self.data, self.regularizers, self.seeds, progress=progress, **options)
        left = len(found.recipes) - len(found.records) - len(found.failures)
        if self.json:
            shown = {name: [asdict(row) for row in rows] for name, rows in found.rows.items()}
            print_json({"rows": shown, "runs": found.records, "failures": found.failures, "not done yet": left})
        else:
            for name, rows in found.rows.items():
                for table in views(rows):
                    print_table(f"{name}, {table.title}", table.header, table.cells, table.note)
                    print()
            if left:
                print(f"{left} runs are not done yet; the same command without --submit-only waits for their jobs")
        if failures := found.failures:
            raise RunError(f"{len(failures)} of {len(found.recipes)} runs failed; the first: {failures[0]}")

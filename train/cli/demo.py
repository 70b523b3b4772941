import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from comhe.errors import RunError, check_at_least

from .console import print_table, show_progress
from .options import Command, Device, Jobs, Seeds, Threads

if TYPE_CHECKING:
    from comhe.train.compare.tables import Row, Table
    from comhe.train.recipe import Recipe

# Recipe, model, data, regularizers and settings: short enough for two cores and a minute.
BRIEF = {"tag": "brief", "epochs": 3, "batch_size": 32, "lr": 0.005, "optimizer": "adam", "weight_decay": 0.0}
COMPARISONS: tuple[tuple[str, str, str, str, dict[str, Any]], ...] = (
    ("kipf", "gcn", "citations", "none,hs-mhe,rp-comhe", {}),
    ("short", "pointnet", "solids", "none,rp-comhe", {"tag": "brief", "epochs": 1, "points": 64, "sample": 64}),
    ("short", "resnet8", "digits", "none,rp-comhe", BRIEF),
)


@dataclass(frozen=True, kw_only=True)
class Demo(Command):
    """Train a small network of each domain with and without CoMHE, on built-in data, and make a page of the result.

    It takes a minute or two on two cores, and needs neither data nor network. The networks are trained too briefly to
    say whether CoMHE helps; `results/` has comparisons that do.
    """

    examples = ("comhe demo", "comhe demo --seeds 5 --output my-demo")

    seeds: Seeds = 3
    output: Annotated[Path, arg(metavar="FOLDER", help="folder of the runs and of the page")] = Path("demo")
    device: Device = "auto"
    threads: Threads = None
    jobs: Jobs = None

    def run(self) -> None:
        from comhe.train.compare.compare import check
        from comhe.train.compare.tables import table
        from comhe.train.report.gather import gather
        from comhe.train.report.page import Page
        from comhe.train.runs.files import write_text
        from comhe.train.runs.launch import train_all

        began = time.perf_counter()
        recipes = planned(self.seeds)
        runs = self.output / "runs"
        check(recipes, self.device, self.jobs, [runs])
        with show_progress("demo", "run") as progress:
            failures = train_all(recipes, runs, None, self.device, self.jobs, progress)
        if failures:
            raise RunError(f"{len(failures)} of {len(recipes)} runs failed; the first: {failures[0]}")
        found = gather([runs])
        page = self.output / "page.html"
        write_text(page, Page(found).html())
        shown = summary([row for row in table(found.records) if row.epoch == "best"])
        print_table(shown.title, shown.header, shown.cells, shown.note)
        print(f"\n{len(recipes)} runs in {time.perf_counter() - began:.0f} s; the page is {page}")


def planned(seeds: int) -> "list[Recipe]":
    """Return the recipes of the demo, the longest runs first."""
    from comhe.train.compare.compare import plan

    check_at_least("seeds", seeds, 1)
    make = partial(plan, seeds=range(seeds))
    found = [make(model, data, names, recipe=recipe, settings=s) for recipe, model, data, names, s in COMPARISONS]
    return [recipe for recipes in reversed(found) for recipe in recipes]


def summary(rows: "Sequence[Row]") -> "Table":
    """Return the table of the demo: rows in the order of :data:`COMPARISONS`, columns that say what came out."""
    from comhe.train.compare.tables import ACCURACY, NAMES, Table, few_seeds
    from comhe.train.report.page import method_order

    order = {(model, data): index for index, (_, model, data, *_) in enumerate(COMPARISONS)}
    names = [NAMES[name] for name in ("model", "data", "regularizer")]
    figures = [column for column in ACCURACY if column.key in ("n", "test", "difference", "low")]
    chosen = sorted(rows, key=lambda row: (order[row.model, row.data], method_order(row.regularizer)))
    title = "Test accuracy at the epoch that validation selects, difference to `none`"
    return Table(title, [*names, *figures], chosen, few_seeds(chosen))

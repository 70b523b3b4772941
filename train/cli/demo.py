import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from comhe.errors import RunError, check_at_least
from comhe.train.compare.compare import check, plan
from comhe.train.compare.tables import Row, table
from comhe.train.recipe import Recipe
from comhe.train.report.gather import gather
from comhe.train.report.page import Page
from comhe.train.runs.files import write_text
from comhe.train.runs.launch import train_all

from .console import console, print_table, show_progress
from .options import Command, Device, Jobs, Threads

# Recipe, model, data, regularizers and settings: short enough for two cores and a minute.
BRIEF = {"epochs": 5, "batch_size": 32, "lr": 0.002, "optimizer": "adam", "weight_decay": 0.0}
COMPARISONS: tuple[tuple[str, str, str, str, dict[str, Any]], ...] = (
    ("kipf", "gcn", "citations", "none,hs-mhe,rp-comhe", {}),
    ("short", "pointnet", "solids", "none,rp-comhe", {"epochs": 1, "points": 64, "sample": 64}),
    ("short", "resnet8", "digits", "none,rp-comhe", BRIEF),
)
HEADER = ("model", "data", "regularizer", "seeds", "test %", "difference", "95 % interval")


@dataclass(frozen=True, kw_only=True)
class Demo(Command):
    """Train a small network of each domain with and without CoMHE, on built-in data, and make a page of the result.

    It takes a minute or two on two cores, and needs neither data nor network. The networks are trained too briefly to
    say whether CoMHE helps; `results/` has comparisons that do.
    """

    seeds: Annotated[int, arg(help="runs of each network, one for each seed")] = 3
    output: Annotated[Path, arg(help="folder of the runs and of the page")] = Path("demo")
    device: Device = "auto"
    threads: Threads = None
    jobs: Jobs = None

    def run(self) -> None:
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
        rows = [row for row in table(found.records) if row.epoch == "best"]
        print_table("Test accuracy at the epoch that validation selects", HEADER, lines(rows))
        console.print(f"{len(recipes)} runs in {time.perf_counter() - began:.0f} s; the page is {page}", soft_wrap=True)


def planned(seeds: int) -> list[Recipe]:
    """Return the recipes of the demo, the longest runs first."""
    check_at_least("seeds", seeds, 1)
    make = partial(plan, seeds=range(seeds))
    found = [make(model, data, names, recipe=recipe, settings=s) for recipe, model, data, names, s in COMPARISONS]
    return [recipe for recipes in reversed(found) for recipe in recipes]


def lines(rows: Sequence[Row]) -> list[list[str]]:
    """Return the cells of the table, in the order of :data:`COMPARISONS`."""
    order = {(model, data): index for index, (_, model, data, *_) in enumerate(COMPARISONS)}
    return [
        [
            row.model,
            row.data,
            row.regularizer,
            str(row.n),
            f"{row.test:.1f}" + (f" ± {row.std:.1f}" if row.n > 1 else ""),
            "" if row.difference is None else f"{round(row.difference, 9):+.1f}",
            f"{row.low:+.1f} to {row.high:+.1f}" if row.has_interval else "",
        ]
        for row in sorted(rows, key=lambda row: order[row.model, row.data])
    ]

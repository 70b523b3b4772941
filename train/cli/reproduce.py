from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from comhe.errors import RunError, UsageError

from .console import print_table, show_progress
from .options import ManyRuns, Seeds, print_json

TAKEN_WITH_RESULTS = ("table", "results", "recipe", "json", "modules")


@dataclass(frozen=True, kw_only=True)
class Reproduce(ManyRuns):
    """Train the runs of one of the paper's tables, and print our figures next to the published ones."""

    examples = ("comhe reproduce gcn --seeds 5 --budget 20m", "comhe reproduce all --results results/*/*-runs.csv")

    table: Annotated[
        Positional[str],
        arg(metavar="TABLE", help="gcn, cnn-depth, cifar, pointnet or imagenet, of the paper; with --results also all"),
    ]
    results: Annotated[
        tuple[Path, ...],
        arg(
            metavar="PATH ...",
            help="folders of runs or files *-runs.csv to take our figures from, whatever their recipe",
            help_behavior_hint="the table's runs are trained",
        ),
    ] = ()
    seeds: Seeds = 5
    budget: Annotated[
        str | None,
        arg(
            metavar="TIME",
            help="after which runs are left for later: 90s, 20m, 1.5h",
            help_behavior_hint="all runs are trained",
        ),
    ] = None
    recipe: Annotated[
        str | None,
        arg(metavar="NAME", help="a name of `comhe list recipes`", help_behavior_hint="the one of the table"),
    ] = None

    def run(self) -> None:
        if self.results:
            return self._print_recorded()
        from comhe.train.compare.compare import check
        from comhe.train.compare.reproduce import HEADER, PUBLISHED, cells, comparison_lines, parse_duration, recipes
        from comhe.train.compare.tables import few_note
        from comhe.train.plugins import load_plugins
        from comhe.train.recipe import find_domain
        from comhe.train.runs.launch import train_all
        from comhe.train.settings import parse_settings
        from comhe.zoo import model_domain

        from .commands import print_commands

        if self.table == "all":
            raise UsageError("all tables would take months to train; name one, or give --results to print them")
        kind = find_domain(model_domain(cells(self.table)[0].model)).recipe
        settings = parse_settings(" ".join(self.settings), kind)
        seeds = range(self.first_seed, self.first_seed + self.seeds)
        wanted = recipes(self.table, seeds, self.recipe, settings)
        seconds = None if self.budget is None else parse_duration(self.budget)
        cluster = self.jobs_of_cluster()
        if self.print_commands:
            check(wanted, "cpu", self.jobs)
            return print_commands(self, wanted)
        if cluster is not None and seconds is not None:
            raise UsageError("--budget is for this machine; --cluster-options time=MINUTES is the time of a job")
        check(wanted, self.device if cluster is None else "cpu", self.jobs, [self.runs])
        train: Any = partial(train_all, seconds=seconds) if cluster is None else cluster.train_all
        options = {"setup": partial(load_plugins, self.modules), "tensorboard": self.tensorboard}
        with show_progress(self.table, "run") as progress:
            failures = train(wanted, self.runs, self.data_root, self.device, self.jobs, progress, **options)
        lines = comparison_lines(self.table, wanted, self.runs)
        if self.json:
            print_json([dict(zip(HEADER, line, strict=True)) for line in lines])
        else:
            title = f"{PUBLISHED[self.table]['title']}, test, percent; recipe {wanted[0].recipe}"
            print_table(title, HEADER, lines, few_note(int(line[4]) for line in lines))
        if failures:
            raise RunError(f"{len(failures)} of {len(wanted)} runs failed; the first: {failures[0]}")

    def _print_recorded(self) -> None:
        from comhe.train.compare.reproduce import PUBLISHED, RECORDED_HEADER, recorded_lines
        from comhe.train.compare.tables import few_note
        from comhe.train.report.gather import gather

        for field in fields(self):
            if field.name not in TAKEN_WITH_RESULTS and getattr(self, field.name) != field.default:
                option = f"--{field.name.replace('_', '-')}"
                raise UsageError(f"--results prints runs that are there, and {option} is for training; leave one out")
        names = list(PUBLISHED) if self.table == "all" else [self.table]
        records = [r for r in gather(self.results, with_curves=False).records if self.recipe in (None, r["recipe"])]
        found = {name: recorded_lines(name, records) for name in names}
        if self.json:
            rows = [(name, dict(zip(RECORDED_HEADER, line, strict=True))) for name in names for line in found[name]]
            return print_json([{"table": name} | row for name, row in rows])
        for i, (name, lines) in enumerate(found.items()):
            print("\n" * bool(i), end="")
            title = f"{name}: {PUBLISHED[name]['title']}, test, percent"
            print_table(title, RECORDED_HEADER, lines, few_note(int(line[5]) for line in lines))

"""Compare models, data sets and regularizers over seeds: train what is missing, and say what differs and how surely."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from comhe.errors import RunError, UsageError
from comhe.train.plugins import load_plugins
from comhe.train.recipe import Recipe, get_recipe
from comhe.train.runs.files import check_writable, write, write_csv
from comhe.train.runs.launch import train_all
from comhe.train.runs.run import Run, run_folder
from comhe.train.task import check_recipe

from .curves import save_curves
from .records import Record, record_of, records_by_digest, training_of, variant_of
from .sweep import check_settings, variants
from .tables import Row, markdown, table

Progress = Callable[[int, int, str], None]


@dataclass
class Comparison:
    """The finished runs of some recipes, as records, rows and tables.

    Attributes:
        name: Name of the recipe, and of the files that :meth:`save` writes.
        recipes: The runs that were asked for.
        records: The figures of each finished run.
        failures: One line for each run that failed.
        runs: Folder of the run folders.
    """

    name: str
    recipes: list[Recipe]
    records: list[Record]
    failures: list[str] = field(default_factory=list)
    runs: Path = Path("runs")

    @cached_property
    def rows(self) -> list[Row]:
        """Means over the seeds, and differences to ``none`` on the same seeds."""
        return table(self.records)

    def markdown(self) -> str:
        """Return the tables in Markdown."""
        return markdown(self.rows)

    def save(self, folder: str | Path) -> None:
        """Write the tables ``NAME.csv``, ``.json`` and ``.md``, every run in ``NAME-runs.csv``, and its curves.

        Curves (``NAME-curves.csv``, ``NAME-energies.csv``) are written if all runs are of one model and data set.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(folder / f"{self.name}-runs.csv", self.records)
        rows = [asdict(row) for row in self.rows]
        write_csv(folder / f"{self.name}.csv", rows)
        without_nan = [{key: None if value != value else value for key, value in row.items()} for row in rows]
        write(folder / f"{self.name}.json", json.dumps(without_nan, indent=1, allow_nan=False) + "\n")
        write(folder / f"{self.name}.md", self.markdown())
        if len({(recipe.model, recipe.data) for recipe in self.recipes}) == 1:
            save_curves(folder, self.name, [(r, run_folder(self.runs, r)) for r in self.recipes])


def compare(
    models: str | Sequence[str] = "gcn",
    data: str | Sequence[str] = "cora,citeseer,pubmed",
    regularizers: str | Sequence[str] = "none,hs-mhe,rp-comhe",
    seeds: int = 10,
    *,
    first_seed: int = 0,
    recipe: str | None = None,
    settings: Mapping[str, Any] = MappingProxyType({}),
    runs: str | Path = "runs",
    root: str | None = None,
    device: str = "cpu",
    jobs: int = 1,
    output: str | Path | None = None,
    plugins: Sequence[str] = (),
    progress: Progress = lambda done, wanted, latest: None,
) -> Comparison:
    """Train models x data sets x regularizers x settings x seeds, as far as the runs are missing, and compare them.

    Args:
        models: Names, as a sequence or separated by commas; the same for ``data`` and ``regularizers``.
        seeds: Number of runs of each cell, with the seeds ``first_seed``, ``first_seed + 1``, ...
        recipe: Name of the recipe; by default the usual one of the models' domain.
        settings: Other settings than the recipe's and options of the regularizers; a list of values makes a sweep.
        runs: Folder of the run folders.
        root: Folder of the data sets; by default ``$COMHE_DATA``, else the user's cache folder.
        jobs: Number of processes that train at a time.
        output: Folder of the tables; runs that are in its ``NAME-runs.csv`` are not repeated.
        plugins: Modules that register names which are not built in; each process imports them.
        progress: Called as each run ends, with the number of runs that have ended, the number of all, and a name.

    Returns:
        The comparison; print ``comparison.markdown()``, or save it.

    Raises:
        UsageError: If a name, an option or a device does not exist. Nothing has been trained then.

    Example:
        >>> found = compare("gcn", "citations", "none,hs-mhe", seeds=1, settings={"epochs": 2})  # doctest: +SKIP
        >>> print(found.markdown())  # doctest: +SKIP
    """
    load_plugins(plugins)
    recipes = plan(models, data, regularizers, seeds, first_seed=first_seed, recipe=recipe, settings=settings)
    check(recipes, device, jobs, [Path(runs), *([] if output is None else [Path(output)])])
    return run_comparison(recipes, runs, root, device, jobs, output, plugins, progress)


def plan(
    models: str | Sequence[str],
    data: str | Sequence[str],
    regularizers: str | Sequence[str],
    seeds: int,
    *,
    first_seed: int = 0,
    recipe: str | None = None,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> list[Recipe]:
    """Return the recipes of a comparison, in the order in which they are trained.

    All cells of a data set come with one seed before the next seed, so that an early look finds complete pairs.

    Raises:
        UsageError: If there is nothing to compare, or a name or setting does not exist.

    Example:
        >>> [run.label for run in plan("gcn", "cora", "none,hs-mhe", 1, recipe="kipf", settings={"epochs": [5, 9]})]
        ['gcn.cora-none+epochs=5', 'gcn.cora-none+epochs=9', 'gcn.cora-hs-mhe+epochs=5', 'gcn.cora-hs-mhe+epochs=9']
    """
    if seeds < 1 or first_seed < 0:
        raise UsageError(f"seeds must be at least 1 and start at 0 or later, not {seeds} from {first_seed}")
    cells = [
        get_recipe(recipe, model, dataset, regularizer)
        for dataset in _names(data)
        for model in _names(models)
        for regularizer in _names(regularizers)
    ]
    for cell in cells:
        check_recipe(cell)
    check_settings(settings, cells)
    return [
        variant.replace(seed=seed)
        for dataset in _names(data)
        for seed in range(first_seed, first_seed + seeds)
        for cell in cells
        if cell.data == dataset
        for variant in variants(cell, settings)
    ]


def check(recipes: Iterable[Recipe], device: str, jobs: int, folders: Iterable[Path] = ()) -> None:
    """Check everything about some runs that can be checked before the first is trained.

    Raises:
        UsageError: If a name, option, device or number of jobs does not fit.
        StorageError: If nothing can be written to one of the folders.
    """
    if jobs < 1:
        raise UsageError(f"jobs must be at least 1, not {jobs}")
    for label, recipe in {recipe.label: recipe for recipe in recipes}.items():
        try:
            check_recipe(recipe, device)
        except UsageError as error:
            raise UsageError(f"{label}: {error}") from error
    for folder in folders:
        check_writable(folder)


def run_comparison(
    recipes: Sequence[Recipe],
    runs: str | Path = "runs",
    root: str | None = None,
    device: str = "cpu",
    jobs: int = 1,
    output: str | Path | None = None,
    plugins: Sequence[str] = (),
    progress: Progress = lambda done, wanted, latest: None,
) -> Comparison:
    """Train the recipes whose runs are missing, and save the comparison to ``output`` if there is one.

    All recipes have the same name. See :func:`compare` for the other arguments.
    """
    runs, name = Path(runs), recipes[0].recipe
    known = {} if output is None else records_by_digest(Path(output) / f"{name}-runs.csv")
    missing = [recipe for recipe in recipes if recipe.digest not in known]
    failures = train_all(missing, runs, root, device, jobs, progress, setup=partial(load_plugins, tuple(plugins)))
    comparison = Comparison(name, list(recipes), collect(recipes, runs, known), failures, runs)
    if output is not None and comparison.records:
        comparison.save(output)
    return comparison


def collect(recipes: Iterable[Recipe], runs: Path, known: Mapping[str, Record] = MappingProxyType({})) -> list[Record]:
    """Return one record for each finished run; those in ``known``, by the digest of their recipe, count as finished.

    Raises:
        RunError: If a folder contains a run of another recipe, or one of an older version, which did not measure costs.
    """
    records = []
    for recipe in recipes:
        run = Run(run_folder(runs, recipe))
        if run.done:
            run.check(recipe)
            if "flops" not in run.result():
                raise RunError(f"{run.folder} is of an older version, which did not measure costs; remove or move it")
            records.append(record_of(run))
        elif recipe.digest in known:
            identity = {"variant": variant_of(recipe), "training": training_of(recipe)}
            records.append(known[recipe.digest] | identity)
    return records


def _names(names: str | Sequence[str]) -> list[str]:
    """Split names at commas; a name that is there twice counts once."""
    names = names.split(",") if isinstance(names, str) else names
    found = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    if not found:
        raise UsageError("a comparison needs at least one model, data set and regularizer")
    return found

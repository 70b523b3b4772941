"""Compare models, data sets and regularizers over seeds: train what is missing, and say what differs and how surely."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from comhe.errors import RunError, UsageError, check_at_least
from comhe.train.plugins import load_plugins
from comhe.train.recipe import Recipe, get_recipe
from comhe.train.runs.cluster import Cluster
from comhe.train.runs.files import check_writable, create_folder, write_csv, write_text
from comhe.train.runs.launch import train_all
from comhe.train.runs.lock import locked
from comhe.train.runs.run import Run, run_folder
from comhe.train.settings import variants
from comhe.train.start import with_start
from comhe.train.task import check_recipe

from .curves import read_curves, save_curves
from .listed import joined, listed_runs
from .records import Record, record_of, training_of, variant_of
from .tables import Row, markdown, table

Names = str | Sequence[str]  # as a sequence, or separated by commas
Progress = Callable[[int, int, str], None]


@dataclass
class Comparison:
    """Finished runs as records and as rows (means over seeds, paired differences); one line for a failed run."""

    recipes: Sequence[Recipe]
    runs: Path
    records: list[Record]
    failures: list[str] = field(default_factory=list)

    @cached_property
    def rows(self) -> dict[str, list[Row]]:
        """The rows by the name of the recipe; those of one recipe are one family of tests."""
        names = dict.fromkeys(record["recipe"] for record in self.records)
        return {name: table([record for record in self.records if record["recipe"] == name]) for name in names}

    def markdown(self) -> str:
        return "\n".join(f"## {name}\n\n{markdown(rows)}" for name, rows in self.rows.items())

    def save(self, folder: str | Path) -> None:
        """Write for each recipe its tables, ``NAME-runs.csv`` and the curves of the runs.

        Runs that the folder lists stay there, and count in the tables that are written.
        """
        create_folder(Path(folder))
        with locked(Path(folder), "--output"):
            for name in self.rows:
                self._save(Path(folder) / name, [record for record in self.records if record["recipe"] == name])

    def _save(self, path: Path, records: Sequence[Record]) -> None:
        file = path.with_name(f"{path.name}-runs.csv")
        records = joined(listed_runs(file, self.recipes), records)
        rows = table(records)
        folders = ((recipe, run_folder(self.runs, recipe)) for recipe in self.recipes if recipe.recipe == path.name)
        save_curves(path, [(recipe, folder) for recipe, folder in folders if Run(folder).done], records)
        write_csv(file, records)
        dicts = [asdict(row) for row in rows]
        write_csv(path.with_name(f"{path.name}.csv"), dicts)
        without_nan = [{key: None if value != value else value for key, value in row.items()} for row in dicts]
        write_text(path.with_name(f"{path.name}.json"), json.dumps(without_nan, indent=1, allow_nan=False) + "\n")
        write_text(path.with_name(f"{path.name}.md"), markdown(rows))


def compare(
    models: Names = "gcn",
    data: Names = "cora,citeseer,pubmed",
    regularizers: Names = "none,hs-mhe,rp-comhe",
    seeds: int = 10,
    *,
    first_seed: int = 0,
    recipe: Names | None = None,
    settings: Mapping[str, Any] = MappingProxyType({}),
    runs: str | Path = "runs",
    root: str | None = None,
    device: str = "auto",
    jobs: int | None = 1,
    output: str | Path | None = None,
    plugins: Sequence[str] = (),
    cluster: Cluster | None = None,
    tensorboard: bool = False,
    progress: Progress = lambda done, wanted, latest: None,
) -> Comparison:
    """Train recipes x data sets x seeds x models x regularizers x settings, as far as runs are missing, and compare.

    The runs are trained in processes of their own: call it in a script under ``if __name__ == "__main__":``.

    Args:
        models: names, as a sequence or separated by commas; so are ``data``, ``regularizers`` and ``recipe``.
        seeds, first_seed: how many seeds, from which on.
        recipe: by default the usual recipe of the models' domain.
        settings: settings other than the recipe's, and options of the regularizers; a list of values makes a sweep.
        runs: folder of the runs; those that are there are not repeated.
        root: data root; by default that of :func:`comhe.datasets.data_root`.
        device: ``"auto"`` takes a GPU where there is one.
        jobs: processes that train at once; None means as many as there are cores for.
        output: folder to save to; runs that are in its ``NAME-runs.csv`` are not repeated, and stay there.
        cluster: where the runs are trained as jobs, with ``jobs`` processes in each; by default this machine.
        plugins: modules that register names which are not built in; each process imports them.
        tensorboard: whether each run also writes its figures for TensorBoard.
        progress: called as each run ends, with the number of runs that have ended, the number of all, and a name.

    Example:
        >>> found = compare("gcn", "citations", "none,hs-mhe", seeds=1, settings={"epochs": 2})  # doctest: +SKIP
        >>> print(found.markdown())  # doctest: +SKIP
    """
    load_plugins(plugins)
    recipes = plan(models, data, regularizers, range(first_seed, first_seed + seeds), recipe, settings)
    here = device if cluster is None else "cpu"  # the device of the jobs is not one of this machine
    check(recipes, here, jobs, [runs] if output is None else [output, runs])
    known = known_records(recipes, output)
    missing = [recipe for recipe in recipes if recipe.digest not in known]
    train = train_all if cluster is None else cluster.train_all
    options: Any = {"setup": partial(load_plugins, tuple(plugins)), "tensorboard": tensorboard}
    failures = train(missing, Path(runs), root, device, jobs, progress, **options)
    comparison = Comparison(recipes, Path(runs), collect(recipes, Path(runs), known), failures)
    if output is not None:
        comparison.save(output)
    return comparison


def plan(
    models: Names,
    data: Names,
    regularizers: Names,
    seeds: Sequence[int],
    recipe: Names | None = None,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> list[Recipe]:
    """Return the recipes of a comparison, in the order of training: a data set's cells, seed by seed."""
    found = []
    for name in [None] if recipe is None else split_names(recipe):
        for dataset in split_names(data):
            cells = [
                get_recipe(name, model, dataset, r) for model in split_names(models) for r in split_names(regularizers)
            ]
            found += [with_start(each.replace(seed=seed)) for seed in seeds for each in variants(cells, settings)]
    if not found:
        raise UsageError("a comparison needs at least one model, data set, regularizer and seed")
    if len({(each.recipe, each.label, each.seed) for each in found}) < len(found):
        raise UsageError("two of the runs have the same name; list each value once, and set no tag for several values")
    return found


def check(recipes: Iterable[Recipe], device: str, jobs: int | None, folders: Iterable[str | Path] = ()) -> None:
    """Raise UsageError or StorageError for what can be known to fail before the first of the runs is trained."""
    check_at_least("jobs", 1 if jobs is None else jobs, 1)
    for recipe in {recipe.label: recipe for recipe in recipes}.values():
        check_recipe(recipe, device)
    for folder in folders:
        check_writable(Path(folder))


def known_records(recipes: Sequence[Recipe], output: str | Path | None) -> dict[str, Record]:
    """Return the records of a folder's ``NAME-runs.csv`` by the digests of their recipes; they count as finished.

    Raises:
        RunError: a file of that folder is damaged, or lists runs that others cannot join.
    """
    found: dict[str, Record] = {}
    if output is None:
        return found
    for name in dict.fromkeys(recipe.recipe for recipe in recipes):
        path = Path(output) / f"{name}-runs.csv"
        read_curves(path)
        found |= {record["settings"]: record for record in listed_runs(path, recipes) if record.get("settings")}
    return found


def collect(recipes: Iterable[Recipe], runs: Path, known: Mapping[str, Record] = MappingProxyType({})) -> list[Record]:
    """Return one record for each finished run; those in ``known``, by the digest of their recipe, count as finished."""
    records = []
    for recipe in recipes:
        run = Run(run_folder(runs, recipe))
        if run.done:
            run.check(recipe)
            if "flops" not in run.result():
                raise RunError(f"{run.folder} is of an older version, which did not measure costs; remove or move it")
            records.append(record_of(run))
        elif recipe.digest in known:
            records.append(known[recipe.digest] | {"variant": variant_of(recipe), "training": training_of(recipe)})
    return records


def split_names(names: Names) -> list[str]:
    """Split names at commas, but not a path that has one; a name that appears twice counts once."""
    if isinstance(names, str):
        parts, found = names.split(","), list[str]()
        while parts:
            end = next((end for end in range(len(parts), 1, -1) if _is_path(parts[:end])), 1)
            found.append(",".join(parts[:end]))
            parts = parts[end:]
        names = found
    return list(dict.fromkeys(name.strip() for name in names if name.strip()))


def _is_path(parts: Sequence[str]) -> bool:
    path = ",".join(parts).partition(":")[2].strip()
    return ":" in parts[0] and bool(path) and os.path.exists(os.path.expanduser(path))

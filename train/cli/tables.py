"""``comhe compare``, ``comhe reproduce`` and ``comhe report``: tables of many runs."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from .console import console, print_table, runs
from .flags import CELL, Place, parse, settings_of


@dataclass(frozen=True)
class Compare:
    """Train models x data sets x regularizers x seeds, what is missing of them, and print the table."""

    models: Annotated[str, arg(help="comma-separated")] = "gcn"
    data: Annotated[str, arg(help="comma-separated")] = "cora,citeseer,pubmed"
    regularizers: Annotated[str, arg(help="comma-separated; differences are taken to `none`")] = "none,hs-mhe,rp-comhe"
    seeds: Annotated[int, arg(help="runs of each cell, seeds 0, 1, ...")] = 10
    recipe: Annotated[str | None, arg(help="recipes, comma-separated; else the usual one of the models' domain")] = None
    settings: Annotated[str, arg(help="other than the recipe's, as in `epochs=5,precision=bf16`")] = ""
    jobs: Annotated[int, arg(help="processes at once; with --device cuda they take turns on the GPUs")] = (
        os.cpu_count() or 1
    )
    output: Annotated[
        Path | None,
        arg(help="folder for tables (CSV, Markdown), every run and its curves (CSV); runs in it are not made again"),
    ] = None
    place: Place = field(default_factory=Place)


def compare(words: list[str]) -> None:
    """Compare models, data sets and regularizers over seeds."""
    from comhe.train.compare.compare import collect as collect_runs
    from comhe.train.compare.compare import known_records, save, table
    from comhe.train.recipe import get_recipe, recipe_class
    from comhe.train.report.curves import save_curves
    from comhe.train.runs.launch import train_all
    from comhe.train.runs.run import run_folder
    from comhe.zoo import model_domain

    flags = parse(Compare, words, "comhe compare", Compare.__doc__)
    require_some(flags)
    place = flags.place
    kind = recipe_class(model_domain(flags.models.split(",")[0]))
    changes = settings_of(kind, flags.settings, "comhe compare", leave_out=CELL)
    for recipe_name in flags.recipe.split(",") if flags.recipe else [None]:
        recipes = [
            get_recipe(recipe_name, model, data, regularizer, seed=seed, **changes)
            for data in flags.data.split(",")  # seeds inside data sets: an early look finds whole pairs
            for seed in range(flags.seeds)
            for model in flags.models.split(",")
            for regularizer in flags.regularizers.split(",")
        ]
        recipe_name = recipes[0].recipe
        known = {} if flags.output is None else known_records(flags.output / f"{recipe_name}-runs.csv")
        wanted = [recipe for recipe in recipes if recipe.digest not in known]
        with runs(recipe_name) as progress:
            failures = train_all(wanted, place.runs, place.data_root, place.device, flags.jobs, progress)
        records = collect_runs(recipes, place.runs, known)
        if records:
            rows = table(records)
            show(rows, recipe_name)
            if flags.output is not None:
                save(flags.output, recipe_name, records, rows)
                if len({(recipe.model, recipe.data) for recipe in recipes}) == 1:
                    folders = ((r.regularizer, r.seed, run_folder(place.runs, r)) for r in recipes)
                    save_curves(flags.output, recipe_name, folders)
        if failures:
            raise ValueError(f"{len(failures)} of {len(recipes)} runs failed; the first: {failures[0]}")


def require_some(flags: Compare | Reproduce) -> None:
    """ValueError unless there is a seed to run and a process to run it."""
    if flags.seeds < 1 or flags.jobs < 1:
        raise ValueError(f"seeds and jobs must be at least 1, not {flags.seeds} and {flags.jobs}")


def show(rows: list, title: str) -> None:
    """The tables on the terminal."""
    from comhe.train.compare.compare import views

    for what, header, cells in views(rows):
        print_table(f"{title}, {what}", header, cells)


@dataclass(frozen=True)
class Reproduce:
    """Work through one of the poster's tables, and print our figures beside the published ones."""

    table: Annotated[Positional[str], arg(help="gcn, cnn-depth, cifar, pointnet or imagenet")]
    seeds: Annotated[int, arg(help="runs of each cell, seeds 0, 1, ...")] = 5
    budget: Annotated[str | None, arg(help="time after which runs are cut, to be gone on with: 90s, 20m, 1.5h")] = None
    recipe: Annotated[str | None, arg(help="else the table's own")] = None
    settings: Annotated[str, arg(help="other than the recipe's, as in `epochs=5,precision=bf16`")] = ""
    jobs: Annotated[int, arg(help="processes at once; with --device cuda they take turns on the GPUs")] = 1
    place: Place = field(default_factory=Place)


def reproduce(words: list[str]) -> None:
    """Reproduce a table of the poster."""
    from comhe.train.compare.reproduce import HEADER, PUBLISHED, beside, cells, recipes, seconds_of
    from comhe.train.recipe import recipe_class
    from comhe.train.runs.launch import train_all
    from comhe.zoo import model_domain

    flags = parse(Reproduce, words, "comhe reproduce", Reproduce.__doc__)
    require_some(flags)
    place = flags.place
    kind = recipe_class(model_domain(cells(flags.table)[0].model))
    changes = settings_of(kind, flags.settings, "comhe reproduce", leave_out=CELL)
    wanted = recipes(flags.table, flags.seeds, flags.recipe, **changes)
    seconds = None if flags.budget is None else seconds_of(flags.budget)
    with runs(flags.table) as progress:
        failures = train_all(wanted, place.runs, place.data_root, place.device, flags.jobs, progress, seconds)
    title = f"{PUBLISHED[flags.table]['title']}, test, percent; recipe {wanted[0].recipe}"
    print_table(title, HEADER, beside(flags.table, wanted, place.runs))
    if failures:
        raise ValueError(f"{len(failures)} of {len(wanted)} runs failed; the first: {failures[0]}")


@dataclass(frozen=True)
class Report:
    """Write one page, which needs no network, with the table and the plots of runs."""

    runs: Annotated[Positional[tuple[Path, ...]], arg(help="folders with run folders at any depth, or *-runs.csv")]
    output: Annotated[Path, arg(aliases=["-o"], help="the page")] = Path("page.html")
    figures: Annotated[Path | None, arg(help="folder for every figure as an SVG file")] = None


def report(words: list[str]) -> None:
    """Write a page on runs."""
    from comhe.train.report.page import Page
    from comhe.train.report.report import gather

    flags = parse(Report, words, "comhe report", Report.__doc__)
    if not flags.runs:
        raise ValueError("name at least one folder of runs, or a *-runs.csv")
    found = gather(flags.runs)
    page = Page(found)
    flags.output.write_text(page.html(), encoding="utf-8")
    if flags.figures is not None:
        console.print(f"{flags.figures}: {page.save_figures(flags.figures)} figures")
    console.print(f"{flags.output}: {len(found.records)} runs, {found.unfinished} unfinished left out")

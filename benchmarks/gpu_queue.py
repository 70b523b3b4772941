"""The trainings that fill the tables, the most informative first, in one command that is cut after its budget:

    python -m benchmarks.gpu_queue --budget 25m --jobs 3          # the same again goes on from there
    python -m benchmarks.gpu_queue publish                        # weights to zoo/pretrained, tables to results/gpu

CNN-9 on CIFAR-100, PointNet and PointNet++ on ModelNet-40 by `one_cycle`, minutes each, and GCNII by `published`:
seed 0 of all before seed 1 of any, so that whatever is cut has pairs. PointNet++ fills a GPU and holds up what runs
next to it: if the budget is short, train it alone (`--models`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from comhe.train.cli.console import show_progress
from comhe.train.compare.compare import Comparison, collect
from comhe.train.compare.publish import publish
from comhe.train.compare.reproduce import parse_duration
from comhe.train.recipe import Recipe, get_recipe
from comhe.train.runs.launch import train_all
from comhe.train.runs.run import Run, run_folder

TRAININGS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {  # recipe, data sets and changed settings
    "cnn9": ("one_cycle", ("cifar100",), {}),
    "pointnet": ("one_cycle", ("modelnet40",), {}),
    "gcn2": ("published", ("cora", "citeseer", "pubmed"), {}),
    "pointnet2_ssg": ("one_cycle", ("modelnet40",), {"epochs": 40}),
}
PAIRS, OTHERS = ("none", "rp-comhe"), ("hs-mhe", "ap-comhe")
OUTPUT = Path("results/gpu")


def recipes(seeds: int, models: Sequence[str] = tuple(TRAININGS), epochs: int | None = None) -> list[Recipe]:
    """In the order in which they are trained; ``epochs``: of all, for a try."""
    found = []
    for seed in range(seeds):
        for names in (PAIRS, OTHERS):
            for model in models:
                recipe, sets, changes = TRAININGS[model]
                changed = changes if epochs is None else {"epochs": epochs}
                found += [get_recipe(recipe, model, d, name, seed=seed, **changed) for d in sets for name in names]
    return found


def publish_all(wanted: list[Recipe], folder: Path, pretrained: Path, root: str | None, device: str) -> None:
    """A table of all runs that are done, and weights of every cell that has some."""
    comparison = Comparison(wanted, folder, collect(wanted, folder))
    print(comparison.markdown())
    comparison.save(OUTPUT)
    for name in dict.fromkeys(recipe.name for recipe in wanted):
        mine = [Run(run_folder(folder, recipe)) for recipe in wanted if recipe.name == name]
        if done := [run for run in mine if run.done]:
            print(publish(done, pretrained, root=root, device=device))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="train", choices=("train", "publish"))
    parser.add_argument("--models", nargs="+", choices=TRAININGS, default=list(TRAININGS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="processes at once, taking turns on the GPUs")
    parser.add_argument("--budget", help="time after which runs are cut, to be continued later: 90s, 20m, 1.5h")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--data-root")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--epochs", type=int, help="fewer, for a try")
    flags = parser.parse_args()
    wanted = recipes(flags.seeds, flags.models, flags.epochs)
    if flags.what == "publish":
        publish_all(wanted, flags.runs, Path("zoo/pretrained"), flags.data_root, flags.device)
        return
    seconds = None if flags.budget is None else parse_duration(flags.budget)
    began = time.monotonic()
    with show_progress("queue", "run") as progress:
        failures = train_all(wanted, flags.runs, flags.data_root, flags.device, flags.jobs, progress, seconds)
    done = sum(Run(run_folder(flags.runs, recipe)).done for recipe in wanted)
    print(f"{done} of {len(wanted)} runs are done, {time.monotonic() - began:.0f} s", *failures, sep="\n")


if __name__ == "__main__":
    main()

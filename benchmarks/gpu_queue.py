"""The trainings that fill the tables, the most informative first, in one command that is cut after its budget:

    python -m benchmarks.gpu_queue --budget 25m --jobs 3          # the same again goes on from there
    python -m benchmarks.gpu_queue publish                        # weights to zoo/pretrained, tables to results/gpu

CNN-9 on CIFAR-100 and PointNet, PointNet with transforms and PointNet++ on ModelNet-40, each by the paper's recipe, in
bf16 where the network is a CNN: seed 0 of all before seed 1 of any, so that whatever is cut has pairs.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from comhe.train.cli.console import show_progress
from comhe.train.compare.compare import Comparison, collect
from comhe.train.compare.publish import publish
from comhe.train.compare.reproduce import parse_duration
from comhe.train.recipe import Recipe, get_recipe
from comhe.train.runs.launch import train_all
from comhe.train.runs.run import Run, run_folder

CELLS = [("cnn9", "cifar100", name) for name in ("none", "rp-comhe", "hs-mhe", "ap-comhe", "adv-comhe")]
CELLS += [(m, "modelnet40", name) for m in ("pointnet", "pointnet2_ssg", "pointnet_t") for name in ("none", "rp-comhe")]
CELLS += [
    (m, "modelnet40", name) for m in ("pointnet", "pointnet2_ssg", "pointnet_t") for name in ("hs-mhe", "ap-comhe")
]
OUTPUT = Path("results/gpu")


def recipes(seeds: int, epochs: int | None = None) -> list[Recipe]:
    """In the order in which they are trained; ``epochs``: of all, for a try."""
    changes = {} if epochs is None else {"epochs": epochs}
    return [
        get_recipe("paper", *cell, seed=seed, **changes, **({"precision": "bf16"} if cell[0] == "cnn9" else {}))
        for seed in range(seeds)
        for cell in CELLS
    ]


def publish_all(wanted: list[Recipe], folder: Path, pretrained: Path, root: str | None, device: str) -> None:
    """A table of all runs that are done, and weights of every cell that has some."""
    comparison = Comparison(wanted, folder, collect(wanted, folder))
    print(comparison.markdown())
    comparison.save(OUTPUT)
    for cell in CELLS:
        mine = [Run(run_folder(folder, r)) for r in wanted if (r.model, r.data, r.regularizer) == cell]
        if done := [run for run in mine if run.done]:
            print(publish(done, pretrained, root=root, device=device))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="train", choices=("train", "publish"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="processes at once, taking turns on the GPUs")
    parser.add_argument("--budget", help="time after which runs are cut, to be continued later: 90s, 20m, 1.5h")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--data-root")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--epochs", type=int, help="fewer, for a try")
    flags = parser.parse_args()
    wanted = recipes(flags.seeds, flags.epochs)
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

"""Train one run, or several in processes of their own."""

import contextlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from signal import SIGINT

import torch

from comhe.datasets import MissingDataError
from comhe.errors import warn
from comhe.train.engine import loop
from comhe.train.engine.distributed import SINGLE_PROCESS, DistributedContext
from comhe.train.engine.loop import Progress
from comhe.train.hardware import choose_device, usable_cores
from comhe.train.recipe import Recipe
from comhe.train.start import other_classes, start_weights, with_start
from comhe.train.task import Task, check_recipe, make_task

from .board import Board
from .interruption import Interrupted
from .run import Run, run_folder
from .workers import run_all


def fit(
    recipe: Recipe | Task,
    run: Run | str | Path | None = None,
    *,
    runs: str | Path = "runs",
    root: str | None = None,
    device: str = "auto",
    progress: Progress = lambda row, epochs: None,
    context: DistributedContext = SINGLE_PROCESS,
    tensorboard: bool = False,
) -> Run:
    """Train a recipe to its end, or go on with a run that was interrupted, or find it done; return the run.

    Args:
        recipe: what to train; or a task, such as one of a domain of your own, which has a recipe.
        run: its folder; by default the folder in ``runs`` that is named by the recipe and its changed settings.
        root: folder of the data sets; by default ``$COMHE_DATA``, else the user's cache folder.
        progress: called after each epoch with its row of ``metrics.csv`` and the number of epochs.
        tensorboard: also write the figures for TensorBoard, in the run's folder (extra ``tensorboard``).

    Raises:
        UsageError: an unknown name or option; nothing has been written then.
        RunError: the folder contains the run of another recipe.
        DivergedError: loss, penalty or weights became infinite or NaN; the message names layer and step.

    Example:
        >>> from comhe.train import get_recipe
        >>> fit(get_recipe("kipf", "gcn", "citations", "hs-mhe", epochs=2)).folder.as_posix()
        'runs/kipf/gcn.citations-hs-mhe+epochs=2/seed0'
    """
    if isinstance(recipe, Recipe):
        recipe = with_start(recipe)
        check_recipe(recipe, device)
        task = None
    else:
        task, recipe = recipe, recipe.recipe
    run = run if isinstance(run, Run) else Run(run_folder(Path(runs), recipe) if run is None else run)
    if run.done:
        run.check(recipe)
        run.tidy()
    else:
        if task is None:
            task = make_task(recipe, root, device, context)
            if (trained := start_weights(recipe)) is not None:
                if note := task.adopt(trained.transforms()):
                    warn(note)
                if not recipe.swap_head and (note := other_classes(task.classes, trained)):
                    warn(f"{note}; swap the head, unless both mean the same")
        if tensorboard and context.is_main:
            with contextlib.closing(Board(run.folder)) as board:
                loop.fit(task, run, progress, board.write)
        else:
            loop.fit(task, run, progress)
    return run


def train_all(
    recipes: Iterable[Recipe],
    runs: Path,
    root: str | None,
    device: str,
    jobs: int | None,
    progress: Callable[[int, int, str], None] = lambda *_: None,
    seconds: float | None = None,
    setup: Callable[[], None] | None = None,
    tensorboard: bool = False,
) -> list[str]:
    """Train all recipes whose runs are not done, and return one line for each that failed.

    Once a run has found no files of its data, the other runs of that data fail without being tried.

    They are trained by ``jobs`` processes at a time; None means one for each core, or for each GPU. After so many
    ``seconds`` what still runs is saved and stopped. ``setup`` is called once in each process, and ``progress`` with
    the number of runs that have ended, the number of all, and the name of the latest.
    """
    device = choose_device(device)
    jobs = jobs or (torch.cuda.device_count() if device == "cuda" else usable_cores() if device == "cpu" else 1)
    wanted = unfinished(recipes, runs)
    count = 0
    failures: list[str] = []
    absent: set[str] = set()  # data of which a run has found no files

    def ended(recipe: Recipe, error: str | None) -> None:
        nonlocal count
        count += 1
        if error is not None:
            failures.append(f"{name_of(recipe)}: {error}")
            if error.startswith(f"{MissingDataError.__name__}: "):
                absent.add(recipe.data)
        progress(count, len(wanted), name_of(recipe) if error is None else f"failed: {failures[-1]}")

    def refusal(recipe: Recipe) -> str | None:
        return f"not tried without the files of {recipe.data}" if recipe.data in absent else None

    try:
        work = partial(fit, runs=runs, root=root, device=device, tensorboard=tensorboard)
        run_all(work, wanted, jobs, seconds, ended, partial(begin_process, device, setup), refusal)
    except KeyboardInterrupt as stopped:
        done = sum(Run(run_folder(runs, recipe)).done for recipe in wanted)
        what = f"stopped with {done} of {len(wanted)} runs done and the others saved"
        raise Interrupted(getattr(stopped, "signum", SIGINT), f"{what}; the same command goes on from there") from None
    return failures


def unfinished(recipes: Iterable[Recipe], runs: Path) -> list[Recipe]:
    """Return the recipes whose runs are not done, and tidy those that are."""
    wanted = []
    for recipe in recipes:
        run = Run(run_folder(runs, recipe))
        if run.done:
            run.tidy()
        else:
            wanted.append(recipe)
    return wanted


def name_of(recipe: Recipe) -> str:
    """Return how lines that are printed name a run."""
    return f"{recipe.label} seed {recipe.seed}"


def begin_process(device: str, setup: Callable[[], None] | None, number: int) -> None:
    """Prepare one of several processes: they take turns on the GPUs."""
    if setup is not None:
        setup()
    if device == "cuda":
        torch.cuda.set_device(number % torch.cuda.device_count())

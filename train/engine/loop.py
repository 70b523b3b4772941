"""The loop that all domains share. It fits on a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from comhe.train.runs.interruption import Interrupted, Stop, deferred
from comhe.train.runs.run import Onlooker, Run
from comhe.train.task import Task

from .capture import Recorder, recorder_of
from .ranks import Agreement, here
from .training import Training
from .witness import NotFinite, Witness, finite, require_finite

CHECKPOINT_SECONDS = 60.0


def fit(
    task: Task, run: Run, progress: Callable[[dict[str, Any], int], None] = lambda row, epochs: None
) -> dict[str, Any]:
    """Train to the recipe's end, from the run's checkpoint where there is one, and return the result.

    Several ranks make the run together; all of them return the result, and the first one writes.

    The test split is looked at twice, after training: with the weights of the last epoch and with those of the epoch
    with the best validation accuracy (the lower validation loss, then the earlier epoch, among equals).

    Raises:
        Interrupted: SIGINT or SIGTERM; the run is saved after the step under way.
        FloatingPointError: loss or penalty is not finite; the message names the layer and the step. The last checkpoint
            is of a state before that.
    """
    ranks = here()
    if ranks.rank:
        run = Onlooker(run.folder)
    with deferred() as stop, run.locked(), repeatable(task.device):
        if ranks.rank:
            ranks.wait()
        run.start(task.recipe)
        if not ranks.rank:
            ranks.wait()
        recorder = recorder_of(task.device, task.generators) if ranks.size == 1 else None
        try:
            return _fit(task, run, progress, stop, recorder)
        except NotFinite as error:
            what, epoch = str(error), error.epoch  # the error itself would keep the diverged network in memory
        if ranks.size > 1:
            what += "; one process alone, on the same run, would name layer and step"
        else:
            try:
                with torch.compiler.set_stance("force_eager"):
                    _fit(Witness(task, epoch), run, lambda row, epochs: None, stop, None)
            except FloatingPointError as found:
                what = f"{what}; {found}"
        what = f"{task.recipe.name} seed {task.recipe.seed}: {what}; lower lr {task.recipe.lr}, or give it a warmup"
        run.fail(what)
        raise FloatingPointError(what)


def _fit(
    task: Task, run: Run, progress: Callable[[dict[str, Any], int], None], stop: Stop, recorder: Recorder | None
) -> dict[str, Any]:
    recipe, steps = task.recipe, task.steps
    training = Training(task, recorder)
    if (state := run.load_checkpoint()) is not None:
        training.load(state)
    step, log = training.step, training.log
    agreed = Agreement(here(), CHECKPOINT_SECONDS)
    for epoch in range(len(log.epochs), recipe.epochs):
        training.begin_epoch()
        batches = task.batches(epoch, training.done)
        for number, inputs in enumerate(batches.inputs, start=epoch * steps + training.done):
            log.before(number)
            log.after(number, *step(batches.make, inputs, recipe.lr_at(number, recipe.epochs * steps)))
            signum, saves = agreed(number, stop.signum, training.seconds_unsaved > CHECKPOINT_SECONDS)
            done = number + 1 - epoch * steps
            if saves:
                training.save(run, epoch, done)
            if signum:
                where = f"stopped in epoch {epoch + 1} of {recipe.epochs} after step {done} of {steps}"
                what = f"{recipe.name} seed {recipe.seed} {where}, saved; the same command goes on from there"
                raise Interrupted(signum, what)
        loss, penalty = finite(epoch, *step.means())  # CPU-GPU sync point, the only one in an epoch's steps
        training.end_epoch()
        validation = task.evaluate(training.judged, "val")
        row = {"epoch": epoch, "loss": loss, "penalty": penalty}
        row |= {f"val_{name}": value for name, value in validation.items()}
        log.epoch(row)
        training.judge(epoch, validation)
        progress(row, recipe.epochs)
    require_finite(training.model, recipe.epochs - 1)  # the last update, whose loss nobody has seen
    return training.finish(run)


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """On the CPU every sum in one order, whatever the number of threads; scattered ones are not otherwise."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    try:
        if device.type == "cpu":
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.utils.deterministic.fill_uninitialized_memory = False  # a help in finding mistakes, and slow
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = filled

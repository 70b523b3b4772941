"""The loop that all domains share. It fits on a page."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from comhe.errors import DivergedError, UsageError, first_line
from comhe.progress import track
from comhe.train.hardware import limited_threads
from comhe.train.runs.interruption import Interrupted, Stop, deferred
from comhe.train.runs.run import Run
from comhe.train.task import Task

from .capture import make_recorder
from .distributed import StopConsensus
from .log import Log
from .nonfinite import NonFiniteError, NonFiniteTracer, require_finite_means, require_finite_parameters
from .training import Training

CHECKPOINT_SECONDS = 60.0
Progress = Callable[[dict[str, Any], int], None]


def _ignore(log: Log) -> None:
    """Observe nothing."""


def fit(
    task: Task, run: Run, progress: Progress = lambda row, epochs: None, observe: Callable[[Log], None] = _ignore
) -> dict[str, Any]:
    """Train to the recipe's end, from the run's checkpoint if there is one; all ranks return the result.

    ``observe`` is called with the log after each epoch, on the main rank.

    The test split is evaluated after training, with the last weights and with those of the epoch of the best validation
    accuracy (the lower validation loss, then the earlier epoch, among equals): once if they are the same. Interrupted
    and DivergedError leave a checkpoint of a sound state.
    """
    context, recipe = task.context, task.recipe
    with deferred() as stop, deterministic(task.device), limited_threads(task.threads), ExitStack() as held:
        prepared = [_prepare(task)]  # before anything is written: what does not fit together leaves no folder
        if context.is_main:
            held.enter_context(run.claimed())
            run.start(recipe, task.device)
        context.barrier()
        if not context.is_main:
            run.follow(recipe)
        try:
            return _fit(task, run, progress, stop, prepared.pop(), observe if context.is_main else _ignore)
        except torch_compile_errors() as error:
            reason = " ".join(first_line(error).split())
            raise UsageError(f"{recipe.model} cannot be compiled here ({reason}); leave out compile") from error
        except NonFiniteError as error:
            what, epoch = str(error), error.epoch  # the error itself would keep the diverged network in memory
        if context.is_distributed:
            what += "; one process alone, on the same run, would name layer and step"
        else:
            try:
                with torch.compiler.set_stance("force_eager"):
                    _fit(task, run, lambda row, epochs: None, stop, _prepare(task, NonFiniteTracer(epoch)), _ignore)
            except DivergedError as error:
                what += f"; {error}"
        what = f"{recipe.label} seed {recipe.seed}: {what}; lower lr {recipe.lr}, or give it a warmup"
        if context.is_main:
            run.fail(what)
        raise DivergedError(what)


def _prepare(task: Task, tracer: NonFiniteTracer | None = None) -> Training:
    is_eager = task.context.is_distributed or tracer is not None
    return Training(task, None if is_eager else make_recorder(task.device, task.generators), tracer)


def _fit(
    task: Task, run: Run, progress: Progress, stop: Stop, training: Training, observe: Callable[[Log], None]
) -> dict[str, Any]:
    recipe, steps = task.recipe, task.steps
    if (state := run.load_checkpoint()) is not None:
        training.load(state)
    step, log = training.step, training.log
    consensus = StopConsensus(task.context, CHECKPOINT_SECONDS)
    with track(f"{recipe.label} seed {recipe.seed}", recipe.epochs * steps, "step") as report:
        for epoch in range(len(log.epochs), recipe.epochs):
            if training.is_out_of_patience:
                break
            training.begin_epoch(epoch)
            first = epoch * steps + training.done
            for number, inputs in enumerate(task.inputs(epoch, training.done), start=first):
                log.before_step(number)
                log.after_step(number, *step(inputs, recipe.lr_at(number, recipe.epochs * steps)))
                signum, saves = consensus(number, stop.signum, training.seconds_unsaved > CHECKPOINT_SECONDS)
                done = number + 1 - epoch * steps
                report(number + 1)
                if saves:
                    training.save(run, epoch, done)
                if signum:
                    position = f"stopped in epoch {epoch + 1} of {recipe.epochs} after step {done} of {steps}, saved"
                    what = f"{recipe.label} seed {recipe.seed} {position}; the same command goes on from there"
                    raise Interrupted(signum, what)
            loss, penalty = require_finite_means(epoch, *step.means())  # CPU-GPU sync point, the only one in an epoch
            training.end_epoch()
            validation = task.evaluate(training.eval_model, "val")
            row = {"epoch": epoch, "loss": loss, "penalty": penalty}
            row |= {f"val_{name}": value for name, value in validation.items()}
            log.add_epoch(row)
            training.select_best(epoch, validation)
            progress(row, recipe.epochs)
            observe(log)
    require_finite_parameters(training.model, len(log.epochs) - 1, task.context)  # after the last update
    return training.finish(run)


def torch_compile_errors() -> tuple[type[Exception], ...]:
    """Return what torch.compile raises of its own, as where there is no compiler; nothing if it was never used."""
    dynamo = sys.modules.get("torch._dynamo.exc")
    return () if dynamo is None else (dynamo.TorchDynamoException,)


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Compute every sum in one order on the CPU, whatever the number of threads; scattered sums are not otherwise."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    fills_memory = memory.fill_uninitialized_memory
    try:
        if device.type == "cpu":
            torch.use_deterministic_algorithms(True, warn_only=True)
            memory.fill_uninitialized_memory = False  # a debugging aid, and slow
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = fills_memory

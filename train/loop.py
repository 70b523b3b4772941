"""The loop that all domains share. It fits on a page."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from comhe.datasets.epochs import Batches, mixed_seed
from comhe.regularizers import Regularizer
from comhe.zoo.preprocessing import Transform

from .average import Average
from .capture import Recorder, recorder_of
from .cost import forward_flops, penalty_seconds
from .interruption import Interrupted, Stop, deferred
from .log import Log
from .ranks import Agreement, Ranks, here, local
from .recipe import Recipe
from .run import Onlooker, Run
from .step import Step
from .witness import NotFinite, Witness

CHECKPOINT_SECONDS = 60.0


class Task(Protocol):
    """What differs between domains. A batch is a tuple that ends with the labels."""

    recipe: Recipe
    device: torch.device
    generators: tuple[torch.Generator, ...]  # that batches are made with, beside the default ones
    steps: int  # in an epoch
    options: dict[str, Any]  # what the model is built with

    def transforms(self) -> Transform:
        """What is done to raw inputs before the model sees them, beside augmentation."""
        ...

    def model(self) -> nn.Module: ...
    def regularizer(self, model: nn.Module) -> Regularizer: ...
    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer: ...
    def batches(self, epoch: int, first: int = 0) -> Batches:
        """The epoch's batches from number ``first`` on."""
        ...

    def parts(self, batch: tuple) -> Iterable[tuple[float, tuple]]:
        """The batch in the parts that go through the network one after the other, each with its share."""
        ...

    def loss(self, model: nn.Module, batch: tuple) -> tuple[Tensor, Tensor]:
        """The loss, a mean over the batch, and the logits."""
        ...

    def example(self) -> tuple:
        """What the model takes for one sample, or for a whole graph."""
        ...

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """At least ``accuracy`` (a fraction of the split's samples) and ``loss``."""
        ...


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
    recipe, ranks = task.recipe, here()
    torch.manual_seed(recipe.seed)  # initialisation and dropout; whatever else is random has a generator of its own
    model = task.model().to(task.device)
    regularizer = task.regularizer(model)
    if ranks.shard_penalty:
        regularizer.shard(ranks.rank, ranks.size)
    regularizer.singly = ranks.parallel == "fsdp"
    average = Average(model, recipe.ema) if recipe.ema else None
    judged = model if average is None else average.module
    spread = ranks.spread(model)
    if judged is not model and ranks.parallel == "fsdp":
        ranks.spread(judged)
    optimizer = task.optimizer(model)
    step = Step(task, model, regularizer, optimizer, average, recorder, spread)
    log = Log(recipe, regularizer)
    start = {"energy": layer_energies(regularizer)}
    best: dict[str, Any] = {"key": (-1.0, 0.0), "epoch": -1, "weights": {}}
    spent = trained = 0.0  # seconds of earlier sessions in all, and seconds of training steps
    first = 0  # steps of the epoch under way that an earlier session has made
    stateful = {"model": model, "regularizer": regularizer, "optimizer": optimizer, "log": log}
    if average is not None:
        stateful["average"] = average
    if ranks.rank:  # the first one goes on as it is
        torch.manual_seed(mixed_seed(recipe.seed, ranks.rank))
    if (state := run.load_checkpoint()) is not None:
        fit_to(optimizer, state["optimizer"])
        for name, part in stateful.items():
            part.load_state_dict(ranks.divided(part, state[name]))
        best, spent, trained, first = state["best"], state["seconds"], state["trained"], state["step"]
        best["weights"] = ranks.divided(judged, best["weights"])
        take_up([state, *state.get("others", [])], step, ranks)
    began = saved = time.perf_counter()
    agreed = Agreement(ranks, CHECKPOINT_SECONDS)

    for epoch in range(len(log.epochs), recipe.epochs):
        model.train()
        epoch_began = time.perf_counter()
        batches = task.batches(epoch, first)
        for number, inputs in enumerate(batches.inputs, start=epoch * task.steps + first):
            log.before(number)
            log.after(number, *step(batches.make, inputs, recipe.lr_at(number, recipe.epochs * task.steps)))
            now = time.perf_counter()
            signum, saves = agreed(number, stop.signum, now - saved > CHECKPOINT_SECONDS)
            if saves:
                finite(epoch, *step.means())  # what has diverged is not saved
                require_finite(model, epoch)
                regularizer.complete()
                state = {name: part.state_dict() for name, part in stateful.items()}
                state |= {"best": best, "seconds": spent + now - began, "trained": trained + now - epoch_began}
                state = ranks.whole(state)
                own, *others = ranks.gather({"sums": step.state_dict(), "random": random_state(task.device)}) or [{}]
                state |= own | {"step": number + 1 - epoch * task.steps, "others": others}
                run.save_checkpoint(state)
                run.save_log(log)
                saved = time.perf_counter()
                epoch_began += saved - now
                if signum:
                    raise Interrupted(
                        signum,
                        f"{recipe.name} seed {recipe.seed} stopped in epoch {epoch + 1} of {recipe.epochs} after step "
                        f"{state['step']} of {task.steps}, saved; the same command goes on from there",
                    )
        loss, penalty = finite(epoch, *step.means())  # CPU-GPU sync point, the only one in an epoch's steps
        row = {"epoch": epoch, "loss": loss, "penalty": penalty}
        first = 0
        step.reset()
        trained += time.perf_counter() - epoch_began
        validation = task.evaluate(judged, "val")
        row |= {f"val_{name}": value for name, value in validation.items()}
        log.epoch(row)
        key = (validation["accuracy"], -validation["loss"])
        if key > tuple(best["key"]):
            weights = {name: tensor.detach().clone() for name, tensor in judged.state_dict().items()}
            best = {"key": key, "epoch": epoch, "weights": weights}
        progress(row, recipe.epochs)

    require_finite(model, recipe.epochs - 1)  # the last update, whose loss nobody has seen
    seconds = spent + time.perf_counter() - began
    result: dict[str, Any] = {
        "seconds": seconds,
        "options": task.options,
        "step_seconds": trained / (recipe.epochs * task.steps),
        "parameters": sum(p.numel() for p in model.parameters()),
        "flops": forward_flops(model, task.example()),
        "start": start,
    }
    for which, epoch, weights in (
        ("last", recipe.epochs - 1, judged.state_dict()),
        ("best", best["epoch"], best["weights"]),
    ):
        run.save_weights(which, ranks.whole(weights))
        model.load_state_dict(weights)
        result[which] = {"epoch": epoch} | {
            f"{split}_{name}": value for split in ("val", "test") for name, value in task.evaluate(model, split).items()
        }
        result[which]["energy"] = layer_energies(regularizer)
    result["penalty_seconds"] = penalty_seconds(regularizer, step.parameters)
    run.save_log(log)
    run.finish(result)
    return result


def fit_to(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Change the state that another device, or another number of ranks, has left into what this optimizer works with.

    How it computes is its own matter; fused kernels go through its tensors in the order of the parameters' memory.
    """
    parameters = []
    for group, saved in zip(optimizer.param_groups, state["param_groups"], strict=True):
        saved |= {name: group[name] for name in ("fused", "capturable") if name in group}
        parameters += group["params"]
    for place, entries in state["state"].items():
        example = parameters[place]
        for name, value in entries.items():
            alike = isinstance(value, Tensor) and value.shape == example.shape
            if alike and not hasattr(example, "full_tensor"):  # else Ranks.divided sees to it
                entries[name] = torch.empty_like(example, dtype=value.dtype).copy_(value)


def take_up(states: list[dict[str, Any]], step: Step, ranks: Ranks) -> None:
    """What each rank had of its own at a checkpoint: sums and random numbers.

    Other ranks than then begin new streams of random numbers, but for the first, and share the sums.
    """
    device = step.task.device
    if len(states) == ranks.size:
        own = states[ranks.rank]
        step.load_state_dict(own["sums"])
        set_random_state(device, own["random"])
        return
    sums = [state["sums"] for state in states]
    step.load_state_dict(sums[0] | {"sums": sum(each["sums"] for each in sums) / len(sums)})
    if ranks.rank == 0:
        set_random_state(device, states[0]["random"])
    else:
        torch.manual_seed(mixed_seed(step.task.recipe.seed, ranks.rank, states[0]["step"]))


def finite(epoch: int, loss: float, penalty: float) -> tuple[float, float]:
    """Both, of an epoch's steps so far; NotFinite if one is not finite."""
    if not math.isfinite(loss + penalty):
        raise NotFinite(f"loss {loss}, penalty {penalty} in epoch {epoch + 1}", epoch)
    return loss, penalty


def require_finite(model: nn.Module, epoch: int) -> None:
    """NotFinite if a parameter is not, on any rank."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    wrong = here().largest(torch.stack([~local(p).isfinite().all() for p in parameters]).int()).tolist()
    for name, is_wrong in zip(names, wrong, strict=True):
        if is_wrong:
            raise NotFinite(f"{name} is not finite in epoch {epoch + 1}", epoch)


def layer_energies(regularizer: Regularizer) -> dict[str, dict[str, Any]]:
    """Role and energies, full and half space, of every layer."""
    return {
        row.name: {"role": row.role, "full": row.diagnostics.energy, "half": row.diagnostics.half_space_energy}
        for row in regularizer.report().layers
    }


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


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The state of the global generators that a run uses: dropout draws from its device's."""
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def set_random_state(device: torch.device, state: dict[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)

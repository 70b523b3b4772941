"""The state of a run, all that it needs to go on to the same bits, and its result."""

import math
import time
from typing import Any

import torch
from torch import Tensor, nn

from comhe.datasets import mixed_seed
from comhe.errors import UsageError
from comhe.train.runs.run import Run
from comhe.train.task import Task
from comhe.zoo.preprocessing import to_card

from .capture import CUDAGraphRecorder
from .cost import OtherWork, forward_flops, penalty_seconds
from .ema import ExponentialMovingAverage
from .log import Log, layer_energies
from .nonfinite import NonFiniteTracer, require_finite_means, require_finite_parameters
from .step import Step


class Training:
    """A model and all that trains it; ``done`` steps of the current epoch were taken by an earlier session."""

    def __init__(self, task: Task, recorder: CUDAGraphRecorder | None, tracer: NonFiniteTracer | None = None) -> None:
        recipe, context = task.recipe, task.context
        self.task, self.context, self.tracer = task, context, tracer
        torch.manual_seed(recipe.seed)  # initialization and dropout; all else that is random has its own generator
        self.model = task.model().to(task.device)
        task.start(self.model)
        check_output(self.model, task)
        self.regularizer = task.regularizer(self.model)
        if context.shard_penalty:
            self.regularizer.shard(context.rank, context.world_size)
        self.ema = ExponentialMovingAverage(self.model, recipe.ema) if recipe.ema else None
        self.eval_model = self.model if self.ema is None else self.ema.module
        parallel_model = context.parallelize(self.model)
        self.optimizer = task.optimizer(self.model)
        if tracer is not None:
            tracer.attach(self.model, self.optimizer)
        self.step = Step(task, self.model, self.regularizer, self.optimizer, self.ema, parallel_model, recorder, tracer)
        self.log = Log(recipe, self.regularizer, context)
        self.done = 0
        self._start = {"energy": layer_energies(self.regularizer)}
        self._best: dict[str, Any] = {"key": (-1.0, 0.0), "epoch": -1, "weights": {}}
        self._highest, self._lowest, self._waited = -math.inf, math.inf, 0  # epochs since validation was last at a best
        self._seconds = self._step_seconds = 0.0  # of earlier sessions, and of training steps in all
        self._began = self._saved = self._resumed = time.perf_counter()
        self._others = OtherWork()
        if not context.is_main:  # the main rank continues the stream of one process
            torch.manual_seed(mixed_seed(recipe.seed, context.rank))

    @property
    def seconds_unsaved(self) -> float:
        return time.perf_counter() - self._saved

    def begin_epoch(self, epoch: int) -> None:
        if self.tracer is not None:
            self.tracer.begin_epoch(epoch)
        self.model.train()
        self.task.on_epoch(self.model, epoch)
        self._resumed = time.perf_counter()

    def end_epoch(self) -> None:
        self._step_seconds += time.perf_counter() - self._resumed
        self.step.reset()
        self.done = 0

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the recipe has waited long enough: neither accuracy nor loss on validation came back to its best."""
        return 0 < self.task.recipe.patience <= self._waited

    def select_best(self, epoch: int, validation: dict[str, float]) -> None:
        """Keep the weights if they are the best so far: accuracy, then the lower loss, then the earlier epoch."""
        self._wait(validation["accuracy"], validation["loss"])
        key = (validation["accuracy"], -validation["loss"])
        if key > tuple(self._best["key"]):
            weights = {name: tensor.detach().clone() for name, tensor in self.eval_model.state_dict().items()}
            self._best = {"key": key, "epoch": epoch, "weights": weights}

    def _wait(self, accuracy: float, loss: float) -> None:
        is_better = accuracy >= self._highest or loss <= self._lowest
        self._waited = 0 if is_better else self._waited + 1
        self._highest, self._lowest = max(self._highest, accuracy), min(self._lowest, loss)

    def save(self, run: Run, epoch: int, done: int) -> None:
        """Write checkpoint and log, on all ranks at once; nothing if the run has diverged."""
        now = time.perf_counter()
        require_finite_means(epoch, *self.step.means())
        require_finite_parameters(self.model, epoch, self.context)
        self.regularizer.sync_state()
        self._step_seconds += now - self._resumed
        ranks = self.context.gather({"sums": self.step.state_dict(), "random": random_state(self.task.device)})
        if self.context.is_main:
            state = {name: part.state_dict() for name, part in self._stateful().items()}
            seconds = {"seconds": self._seconds + now - self._began, "step_seconds": self._step_seconds}
            run.save_checkpoint(state | seconds | {"best": self._best, "done": done, "ranks": ranks})
            run.save_log(self.log)
        self._saved = self._resumed = time.perf_counter()

    def load(self, state: dict[str, Any]) -> None:
        adapt_optimizer_state(self.optimizer, state["optimizer"])
        for name, part in self._stateful().items():
            part.load_state_dict(state[name])
        self._best, self.done = state["best"], state["done"]
        for row in self.log.epochs:
            self._wait(row["val_accuracy"], row["val_loss"])
        self._seconds, self._step_seconds = state["seconds"], state["step_seconds"]
        load_ranks(state["ranks"], self.step, self.done)
        self._began = self._saved = time.perf_counter()

    def finish(self, run: Run) -> dict[str, Any]:
        """Write weights, log and result: of the last epoch, and of the one that validation selects."""
        task, model = self.task, self.model
        ranks = self.context.gather(self._others.own())
        result: dict[str, Any] = {
            "seconds": self._seconds + time.perf_counter() - self._began,
            "options": task.options,
            "preprocessing": to_card(task.transforms()),
            "classes": list(task.classes),
            "step_seconds": self._step_seconds / (len(self.log.epochs) * task.steps),
            "other_cores": self._others.cores(ranks),  # since the run was last resumed
            "parameters": sum(p.numel() for p in model.parameters()),
            "flops": forward_flops(model, task.example()),
            "start": self._start,
        }
        last: dict[str, Any] = {"epoch": len(self.log.epochs) - 1, "weights": self.eval_model.state_dict()}
        for which, chosen in (("last", last), ("best", self._best)):
            epoch, weights = chosen["epoch"], chosen["weights"]
            if self.context.is_main:
                run.save_weights(which, weights)
            model.load_state_dict(weights)
            if which == "best" and epoch == last["epoch"]:  # the same weights
                result[which] = result["last"]
                continue
            row = self.log.epochs[epoch]  # which has been validated
            result[which] = {"epoch": epoch} | {name: row[name] for name in row if name.startswith("val_")}
            result[which] |= {f"test_{name}": value for name, value in task.evaluate(model, "test").items()}
            result[which]["energy"] = layer_energies(self.regularizer)
        result["penalty_seconds"] = penalty_seconds(self.regularizer, self.step.parameters)
        if self.context.is_main:
            run.save_log(self.log)
            run.finish(result)
        return result

    def _stateful(self) -> dict[str, Any]:
        parts = {"model": self.model, "regularizer": self.regularizer, "optimizer": self.optimizer, "log": self.log}
        return parts if self.ema is None else parts | {"ema": self.ema}


def adapt_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Fit the state that another device's optimizer left, in place, to this one: fused or not, and its memory order."""
    parameters = []
    for group, saved in zip(optimizer.param_groups, state["param_groups"], strict=True):
        saved |= {name: group[name] for name in ("fused", "capturable") if name in group}
        parameters += group["params"]
    for index, entries in state["state"].items():
        parameter = parameters[index]
        for name, value in entries.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                entries[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def load_ranks(states: list[dict[str, Any]], step: Step, done: int) -> None:
    """Load each rank's sums and random numbers; on other ranks sums are averaged, and new streams begin."""
    context, device = step.context, step.task.device
    if len(states) == context.world_size:
        step.load_state_dict(states[context.rank]["sums"])
        set_random_state(device, states[context.rank]["random"])
        return
    sums = [state["sums"] for state in states]
    step.load_state_dict(sums[0] | {"sums": sum(each["sums"] for each in sums) / len(sums)})
    if context.is_main:
        set_random_state(device, states[0]["random"])
    else:
        torch.manual_seed(mixed_seed(step.task.recipe.seed, context.rank, done))


@torch.no_grad()
def check_output(model: nn.Module, task: Task) -> None:
    """Raise UsageError unless the model gives each sample of the task one number for each class."""
    model.eval()
    logits, classes = model(*task.example()), task.options.get("num_classes")
    if not isinstance(logits, Tensor) or logits.dim() != 2 or logits.shape[1] != (classes or logits.shape[1]):
        found = list(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise UsageError(f"{task.recipe.model} must return logits [samples, {classes}], not {found}")


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the state of the global generators that a run uses: dropout draws from its device's."""
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def set_random_state(device: torch.device, state: dict[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)

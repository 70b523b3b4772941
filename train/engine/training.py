"""What a run is made of, what it has to remember so that it goes on to the same bits, and its result."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from comhe.datasets.sampling import mixed_seed
from comhe.regularizers import Regularizer
from comhe.train.runs.run import Run
from comhe.train.task import Task

from .capture import Recorder
from .cost import forward_flops, penalty_seconds
from .ema import Average
from .log import Log
from .ranks import here
from .step import Step
from .witness import finite, require_finite


class Training:
    """A model and all that trains it.

    Attributes:
        model, regularizer, optimizer, average, step, log: the parts; no average where the recipe wants none.
        judged: the model that is evaluated, which is the average if there is one.
        done: steps of the epoch under way that an earlier session has made.
    """

    def __init__(self, task: Task, recorder: Recorder | None) -> None:
        recipe, self.ranks = task.recipe, here()
        self.task = task
        torch.manual_seed(recipe.seed)  # initialisation and dropout; whatever else is random has a generator of its own
        self.model = task.model().to(task.device)
        self.regularizer = task.regularizer(self.model)
        if self.ranks.shard_penalty:
            self.regularizer.shard(self.ranks.rank, self.ranks.size)
        self.regularizer.singly = self.ranks.parallel == "fsdp"
        self.average = Average(self.model, recipe.ema) if recipe.ema else None
        self.judged = self.model if self.average is None else self.average.module
        spread = self.ranks.spread(self.model)
        if self.average is not None and self.ranks.parallel == "fsdp":
            self.ranks.spread(self.judged)
        self.optimizer = task.optimizer(self.model)
        self.step = Step(task, self.model, self.regularizer, self.optimizer, self.average, recorder, spread)
        self.log = Log(recipe, self.regularizer)
        self.done = 0
        self._start = {"energy": layer_energies(self.regularizer)}
        self._best: dict[str, Any] = {"key": (-1.0, 0.0), "epoch": -1, "weights": {}}
        self._spent = self._trained = 0.0  # seconds of earlier sessions in all, and seconds of training steps
        self._began = self._saved = self._counted = time.perf_counter()
        if self.ranks.rank:  # the first one goes on as it is
            torch.manual_seed(mixed_seed(recipe.seed, self.ranks.rank))

    @property
    def seconds_unsaved(self) -> float:
        return time.perf_counter() - self._saved

    def begin_epoch(self) -> None:
        """Steps follow."""
        self.model.train()
        self._counted = time.perf_counter()

    def end_epoch(self) -> None:
        """All steps of the epoch have been made."""
        self._trained += time.perf_counter() - self._counted
        self.step.reset()
        self.done = 0

    def judge(self, epoch: int, validation: dict[str, float]) -> None:
        """Keep the weights if they are the best so far: accuracy, then the lower loss, then the earlier epoch."""
        key = (validation["accuracy"], -validation["loss"])
        if key > tuple(self._best["key"]):
            weights = {name: tensor.detach().clone() for name, tensor in self.judged.state_dict().items()}
            self._best = {"key": key, "epoch": epoch, "weights": weights}

    def save(self, run: Run, epoch: int, done: int) -> None:
        """Write checkpoint and log after so many steps of an epoch; NotFinite, and nothing written, if it diverged."""
        now = time.perf_counter()
        finite(epoch, *self.step.means())
        require_finite(self.model, epoch)
        self.regularizer.complete()
        self._trained += now - self._counted
        state = {name: part.state_dict() for name, part in self._parts().items()}
        state |= {"best": self._best, "seconds": self._spent + now - self._began, "trained": self._trained}
        state = self.ranks.whole(state)
        own, *others = self.ranks.gather(
            {"sums": self.step.state_dict(), "random": random_state(self.task.device)}
        ) or [{}]
        run.save_checkpoint(state | own | {"step": done, "others": others})
        run.save_log(self.log)
        self._saved = self._counted = time.perf_counter()

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        fit_to(self.optimizer, state["optimizer"])
        for name, part in self._parts().items():
            part.load_state_dict(self.ranks.divided(part, state[name]))
        self._best, self._spent, self._trained, self.done = (
            state[name] for name in ("best", "seconds", "trained", "step")
        )
        self._best["weights"] = self.ranks.divided(self.judged, self._best["weights"])
        take_up([state, *state.get("others", [])], self.step)
        self._began = self._saved = time.perf_counter()

    def finish(self, run: Run) -> dict[str, Any]:
        """Write weights, log and result: of the last epoch, and of the one that validation selects."""
        task, recipe, model = self.task, self.task.recipe, self.model
        result: dict[str, Any] = {
            "seconds": self._spent + time.perf_counter() - self._began,
            "options": task.options,
            "step_seconds": self._trained / (recipe.epochs * task.steps),
            "parameters": sum(p.numel() for p in model.parameters()),
            "flops": forward_flops(model, task.example()),
            "start": self._start,
        }
        for which, epoch, weights in (
            ("last", recipe.epochs - 1, self.judged.state_dict()),
            ("best", self._best["epoch"], self._best["weights"]),
        ):
            run.save_weights(which, self.ranks.whole(weights))
            model.load_state_dict(weights)
            result[which] = {"epoch": epoch} | {
                f"{split}_{name}": value
                for split in ("val", "test")
                for name, value in task.evaluate(model, split).items()
            }
            result[which]["energy"] = layer_energies(self.regularizer)
        result["penalty_seconds"] = penalty_seconds(self.regularizer, self.step.parameters)
        run.save_log(self.log)
        run.finish(result)
        return result

    def _parts(self) -> dict[str, Any]:
        parts = {"model": self.model, "regularizer": self.regularizer, "optimizer": self.optimizer, "log": self.log}
        return parts if self.average is None else parts | {"average": self.average}


def layer_energies(regularizer: Regularizer) -> dict[str, dict[str, Any]]:
    """Role and energies, full and half space, of every layer."""
    return {
        row.name: {"role": row.role, "full": row.diagnostics.energy, "half": row.diagnostics.half_space_energy}
        for row in regularizer.report().layers
    }


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


def take_up(states: list[dict[str, Any]], step: Step) -> None:
    """What each rank had of its own at a checkpoint: sums and random numbers.

    Other ranks than then begin new streams of random numbers, but for the first, and share the sums.
    """
    device, ranks = step.task.device, here()
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


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The state of the global generators that a run uses: dropout draws from its device's."""
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def set_random_state(device: torch.device, state: dict[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)

"""What a run records as it goes: epochs, energies of the layers, and single steps where they are asked for."""

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from comhe.regularizers import Regularizer, hyperspherical_energy
from comhe.train.recipe import Recipe

from .distributed import DistributedContext

Rows = list[dict[str, Any]]


@torch.no_grad()
def layer_energies(regularizer: Regularizer) -> dict[str, dict[str, Any]]:
    """Return role and energies, full and half space, of every layer."""
    found: dict[str, dict[str, Any]] = {}
    for layer in regularizer.layers:
        w = layer.neurons()
        full, half = (float(hyperspherical_energy(w, half_space=half).mean()) for half in (False, True))
        found[layer.name] = {"role": layer.role, "full": full, "half": half}
    return found


class Log:
    """Rows of three tables, each a file of the run folder: ``metrics``, ``energies`` and ``steps``.

    The column ``epoch`` of ``energies`` counts the finished epochs. ``steps`` has figures of the last microbatch, and
    mean energies of the hidden layers (half space) and of the output layers (full space), before the step.
    """

    def __init__(self, recipe: Recipe, regularizer: Regularizer, context: DistributedContext) -> None:
        self.recipe, self.regularizer, self.context = recipe, regularizer, context
        self.epochs: Rows = []
        self.energies: Rows = []
        self.steps: Rows = []
        self._energies_before: dict[str, Any] = {}  # the current step
        if recipe.energies:
            self._diagnose(0)

    def add_epoch(self, row: dict[str, Any]) -> None:
        self.epochs.append(row)
        done, every = len(self.epochs), self.recipe.energies
        if every and (done % every == 0 or done == self.recipe.epochs):
            self._diagnose(done)

    def before_step(self, step: int) -> None:
        """Compute the layers' energies, if the step is to be recorded."""
        if not self._records(step):
            return
        layers = layer_energies(self.regularizer).values()
        hidden = [layer["half"] for layer in layers if layer["role"] == "hidden"]
        output = [layer["full"] for layer in layers if layer["role"] == "output"]
        for name, values in (("hidden_energy", hidden), ("output_energy", output)):
            self._energies_before[name] = sum(values) / len(values) if values else ""

    def after_step(self, step: int, loss: Tensor, penalty: Tensor, logits: Tensor, labels: Tensor) -> None:
        if not self._records(step):
            return
        context = self.context
        count = torch.tensor(float(len(labels)), dtype=torch.float64, device=labels.device)
        correct = (logits.argmax(-1) == labels).double().sum()
        sums = context.sum(torch.stack((loss.double() * count, correct, count)))
        row = {
            "step": step,
            "loss": float(sums[0] / sums[2]) if context.is_distributed else float(loss),
            "accuracy": float(sums[1] / sums[2]),
            "largest_logit": float(context.maximum(logits.abs().max())),
            "penalty": float(context.mean(penalty)),
        }
        self.steps.append(row | self._energies_before)

    def _records(self, step: int) -> bool:
        return bool(self.recipe.log_steps) and step % self.recipe.log_steps == 0

    def _diagnose(self, done: int) -> None:
        for row in self.regularizer.report().layers:
            self.energies.append({"epoch": done, "layer": row.name, "role": row.role, **asdict(row.diagnostics)})

    def tables(self) -> dict[str, Rows]:
        tables = {"metrics": self.epochs, "energies": self.energies, "steps": self.steps}
        return {name: rows for name, rows in tables.items() if rows}

    def state_dict(self) -> dict[str, Rows]:
        return {"epochs": self.epochs, "energies": self.energies, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Rows]) -> None:
        self.epochs, self.energies, self.steps = state["epochs"], state["energies"], state["steps"]

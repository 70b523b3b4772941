"""What a run writes down as it goes: epochs, energies of the layers, and single steps where they are asked for."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from comhe.regularizers import Regularizer
from comhe.train.recipe import Recipe

from .ranks import here

Rows = list[dict[str, Any]]


class Log:
    """Rows of three tables, each a file of the run folder: ``metrics``, ``energies`` and ``steps``.

    ``energies`` has a line for each regularized layer with its diagnostics, every ``recipe.energies`` epochs, before
    the first and after the last; its column ``epoch`` counts the epochs that are done. ``steps`` has a line every
    ``recipe.log_steps`` steps: loss, accuracy and largest logit of the batch (of its last part), and the mean energies
    of the hidden layers (half space) and of the output layers (full space), before the step is taken.
    """

    def __init__(self, recipe: Recipe, regularizer: Regularizer) -> None:
        self.recipe, self.regularizer = recipe, regularizer
        self.epochs: Rows = []
        self.energies: Rows = []
        self.steps: Rows = []
        self._energies: dict[str, Any] = {}  # before the step under way
        if recipe.energies:
            self._diagnose(0)

    def epoch(self, row: dict[str, Any]) -> None:
        """Take down an epoch's row."""
        self.epochs.append(row)
        done, every = len(self.epochs), self.recipe.energies
        if every and (done % every == 0 or done == self.recipe.epochs):
            self._diagnose(done)

    def before(self, step: int) -> None:
        """Look at the layers before a step, if it is one of those to take down."""
        if self._left_out(step):
            return
        layers = self.regularizer.report().layers
        hidden = [row.diagnostics.half_space_energy for row in layers if row.role == "hidden"]
        output = [row.diagnostics.energy for row in layers if row.role == "output"]
        self._energies = {
            "hidden_energy": sum(hidden) / len(hidden) if hidden else "",
            "output_energy": sum(output) / len(output) if output else "",
        }

    def after(self, step: int, loss: Tensor, penalty: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Take down the step."""
        if self._left_out(step):
            return
        ranks = here()
        count = torch.tensor(float(len(labels)), dtype=torch.float64, device=labels.device)
        right = (logits.argmax(-1) == labels).double().sum()
        sums = ranks.sum(torch.stack((loss.double() * count, right, count)))
        row = {
            "step": step,
            "loss": float(loss) if ranks.size == 1 else float(sums[0] / sums[2]),
            "accuracy": float(sums[1] / sums[2]),
            "largest_logit": float(ranks.largest(logits.abs().max())),
            "penalty": float(ranks.mean(penalty)),
        }
        self.steps.append(row | self._energies)

    def _left_out(self, step: int) -> bool:
        return not self.recipe.log_steps or step % self.recipe.log_steps != 0

    def _diagnose(self, done: int) -> None:
        for row in self.regularizer.report().layers:
            self.energies.append({"epoch": done, "layer": row.name, "role": row.role, **asdict(row.diagnostics)})

    def tables(self) -> dict[str, Rows]:
        """The tables that have rows, by name."""
        tables = {"metrics": self.epochs, "energies": self.energies, "steps": self.steps}
        return {name: rows for name, rows in tables.items() if rows}

    def state_dict(self) -> dict[str, Rows]:
        return {"epochs": self.epochs, "energies": self.energies, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Rows]) -> None:
        self.epochs, self.energies, self.steps = state["epochs"], state["energies"], state["steps"]

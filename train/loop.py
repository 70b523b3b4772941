"""The loop that all domains share. It fits on a page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from comhe.regularizers import Regularizer

from .recipe import Recipe
from .run import Run

CHECKPOINT_SECONDS = 60.0


class Task(Protocol):
    """What differs between domains."""

    recipe: Recipe
    device: torch.device

    def model(self) -> nn.Module: ...
    def regularizer(self, model: nn.Module) -> Regularizer: ...
    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer: ...
    def batches(self, epoch: int) -> Iterable[Any]: ...
    def loss(self, model: nn.Module, batch: Any) -> Tensor: ...
    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """At least ``accuracy`` (a fraction of the split's samples) and ``loss``."""
        ...


def fit(
    task: Task, run: Run, progress: Callable[[dict[str, Any], int], None] = lambda row, epochs: None
) -> dict[str, Any]:
    """Train to the recipe's end, from the run's checkpoint where there is one, and return the result.

    The test split is looked at twice, after training: with the weights of the last epoch and with those of the epoch
    with the best validation accuracy (the lower validation loss, then the earlier epoch, among equals).
    """
    recipe = task.recipe
    run.start(recipe)
    torch.manual_seed(recipe.seed)  # initialisation and dropout; whatever else is random has a generator of its own
    model = task.model().to(task.device)
    regularizer, optimizer = task.regularizer(model), task.optimizer(model)
    rows: list[dict[str, Any]] = []
    best: dict[str, Any] = {"key": (-1.0, 0.0), "epoch": -1, "weights": {}}
    spent = 0.0
    if (state := run.load_checkpoint()) is not None:
        model.load_state_dict(state["model"])
        regularizer.load_state_dict(state["regularizer"])
        optimizer.load_state_dict(state["optimizer"])
        rows, best, spent = state["rows"], state["best"], state["seconds"]
        torch.set_rng_state(state["rng"])
    began = saved = time.perf_counter()

    for epoch in range(len(rows), recipe.epochs):
        model.train()
        losses, penalties = [], []
        for batch in task.batches(epoch):
            loss = task.loss(model, batch)
            penalty = regularizer()
            optimizer.zero_grad(set_to_none=True)
            (loss + penalty).backward()
            optimizer.step()
            losses.append(loss.detach())
            penalties.append(penalty.detach())
        validation = task.evaluate(model, "val")
        row = {
            "epoch": epoch,
            "loss": float(torch.stack(losses).mean()),  # CPU-GPU sync point
            "penalty": float(torch.stack(penalties).mean()),
            **{f"val_{name}": value for name, value in validation.items()},
        }
        rows.append(row)
        key = (validation["accuracy"], -validation["loss"])
        if key > tuple(best["key"]):
            weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
            best = {"key": key, "epoch": epoch, "weights": weights}
        progress(row, recipe.epochs)
        if time.perf_counter() - saved > CHECKPOINT_SECONDS and epoch + 1 < recipe.epochs:
            saved = time.perf_counter()
            run.save_checkpoint(
                {
                    "model": model.state_dict(),
                    "regularizer": regularizer.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "rows": rows,
                    "best": best,
                    "seconds": spent + saved - began,
                    "rng": torch.get_rng_state(),
                }
            )

    seconds = spent + time.perf_counter() - began
    result: dict[str, Any] = {"seconds": seconds, "parameters": sum(p.numel() for p in model.parameters())}
    for which, epoch, weights in (
        ("last", recipe.epochs - 1, model.state_dict()),
        ("best", best["epoch"], best["weights"]),
    ):
        run.save_weights(which, weights)
        model.load_state_dict(weights)
        result[which] = {"epoch": epoch} | {
            f"{split}_{name}": value for split in ("val", "test") for name, value in task.evaluate(model, split).items()
        }
        result[which]["energy"] = {
            row.name: {"full": row.diagnostics.energy, "half": row.diagnostics.half_space_energy}
            for row in regularizer.report().layers
        }
    run.finish(rows, result)
    return result

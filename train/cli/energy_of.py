"""Diagnostics of every layer of a run, a checkpoint or a model."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table
from torch import Tensor

from comhe.regularizers import NoNeuronsError, diagnose, neurons
from comhe.regularizers.diagnostics import TITLES
from comhe.train.recipe import recipe_class
from comhe.train.runs.run import Run
from comhe.train.task import make_task
from comhe.zoo import create_model, get_weights, list_models, list_weights, model_domain, read_state

from .console import console


def layers_of(source: str, which: str, data: str, seed: int, root: str | None) -> dict[str, Tensor]:
    """Matrices of neurons by layer name, from a run folder, a file with a state dict, or the name of weights or a
    model.

    In a bare state dict every floating-point tensor with two or more dimensions whose name ends in ``weight`` counts,
    its first dimension being the neurons.
    """
    path = Path(source)
    if path.is_dir():
        return _from_state(Run(path).weights(which))
    if path.is_file():
        return _from_state(read_state(path))
    if source in list_weights():
        return _from_state(get_weights(source).state_dict())
    if source not in list_models():
        raise ValueError(
            f"{source!r} is neither a folder, nor a file, nor pretrained weights, nor a model; `comhe list models` and "
            "`comhe list weights` name these"
        )
    torch.manual_seed(seed)
    if model_domain(source) == "graphs":  # its width comes from the data
        model = make_task(recipe_class("graphs")(model=source, data=data), root).model()
    else:
        model = create_model(source)
    found = {}
    for name, module in model.named_modules():
        try:
            found[name] = neurons(module).detach()
        except NoNeuronsError:
            continue
    return found


def print_diagnostics(layers: dict[str, Tensor]) -> None:
    table = Table(box=SIMPLE_HEAD)
    for title in ("layer", "neurons", *TITLES):
        table.add_column(title, justify="left" if title == "layer" else "right", no_wrap=True)
    for name, w in layers.items():
        if w.shape[-2] >= 2:
            table.add_row(name, " x ".join(map(str, w.shape)), *diagnose(w).cells())
    console.print(table)


def _from_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {
        name: tensor.flatten(1)
        for name, tensor in state.items()
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.dim() >= 2 and name.endswith("weight")
    }
    if not found:
        raise ValueError("no weight matrix in the state dict")
    return found

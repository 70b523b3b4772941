"""Diagnostics of every layer of a run, a checkpoint or a model."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table
from safetensors.torch import load_file
from torch import Tensor

from comhe.regularizers import NoNeuronsError, diagnose, neurons
from comhe.regularizers.diagnostics import TITLES
from comhe.zoo import create_model, list_models, model_domain

from .console import console
from .domains import make_task, recipe_class
from .run import Run


def layers_of(source: str, which: str, data: str, seed: int, root: str | None) -> dict[str, Tensor]:
    """Matrices of neurons by layer name, from a run folder, a file with a state dict, or a model's name.

    In a bare state dict every floating-point tensor with two or more dimensions whose name ends in ``weight`` counts,
    its first dimension being the neurons.
    """
    path = Path(source)
    if path.is_dir():
        return _from_state(Run(path).weights(which))
    if path.is_file():
        return _from_state(_load(path))
    if source not in list_models():
        raise ValueError(
            f"{source!r} is neither a folder, nor a file, nor a model; `comhe list models` names the models"
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


def _load(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds {type(state).__name__}, not a state dict")
    return state


def _from_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {
        name: tensor.flatten(1)
        for name, tensor in state.items()
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.dim() >= 2 and name.endswith("weight")
    }
    if not found:
        raise ValueError("no weight matrix in the state dict")
    return found

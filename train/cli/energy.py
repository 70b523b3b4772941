from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor
from tyro.conf import Positional, arg

from comhe.errors import UsageError
from comhe.regularizers import NoNeuronsError, diagnose, neurons
from comhe.regularizers.diagnostics import TITLES
from comhe.train.recipe import get_recipe
from comhe.train.runs.run import Run
from comhe.train.task import make_task
from comhe.zoo import create_model, get_weights, list_models, list_weights, model_domain, read_state
from comhe.zoo.cards import is_shared

from .console import print_table
from .options import Command, DataRoot, WhichWeights


@dataclass(frozen=True, kw_only=True)
class Energy(Command):
    """Diagnose how the neurons of each layer lie on the sphere: energies, angles, coherence, rank, dead neurons."""

    source: Annotated[Positional[str], arg(help="a run folder, a state dict file, or a name of weights or a model")]
    weights: WhichWeights = "best"
    data: Annotated[str, arg(help="for the name of a graph model: the data set that decides its width")] = "citations"
    seed: Annotated[int, arg(help="for the name of a model: seed of its initialization")] = 0
    data_root: DataRoot = None

    def run(self) -> None:
        layers = layers_of(self.source, self.weights, self.data, self.seed, self.data_root)
        several = {name: w for name, w in layers.items() if w.shape[-2] >= 2}
        lines = [[name, " x ".join(map(str, w.shape)), *diagnose(w).cells()] for name, w in several.items()]
        print_table(self.source, ["layer", "neurons", *TITLES], lines)


def layers_of(source: str, which: str, data: str, seed: int, root: str | None) -> dict[str, Tensor]:
    """Return matrices of neurons by layer; in a state dict all tensors of two or more dimensions named *weight."""
    path = Path(source)
    if path.is_dir():
        return _from_state(source, Run(path).weights(which))
    if path.is_file():
        return _from_state(source, read_state(path))
    if is_shared(source) or source in list_weights():
        return _from_state(source, get_weights(source).state_dict())
    if source not in list_models():
        hint = "`comhe list weights` and `comhe list models` show these names"
        raise UsageError(f"{source!r} is neither a folder, nor a file, nor the name of weights or a model; {hint}")
    torch.manual_seed(seed)
    if model_domain(source) == "graphs":  # the data decide its width
        model = make_task(get_recipe(None, source, data, "none"), root).model()
    else:
        model = create_model(source)
    found = {}
    for name, module in model.named_modules():
        try:
            found[name] = neurons(module).detach()
        except NoNeuronsError:
            continue
    return found


def _from_state(source: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    weights = {name: w for name, w in state.items() if isinstance(w, Tensor) and name.endswith("weight")}
    found = {name: w.flatten(1) for name, w in weights.items() if w.is_floating_point() and w.dim() >= 2}
    if not found:
        raise UsageError(f"{source} has no weight matrix: no tensor of two or more dimensions that is named *weight")
    return found

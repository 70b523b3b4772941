"""Angles between the neurons of a layer, before and after training."""

import math

import torch
from torch import Tensor

from comhe.errors import RunError
from comhe.regularizers import diagnose, neurons
from comhe.train.runs.run import Run
from comhe.zoo import create_model


def angles(w: Tensor) -> Tensor:
    """Return the angles in degrees between all pairs of neurons: [..., N, d] -> [pairs]."""
    unit = torch.nn.functional.normalize(w.detach().double(), dim=-1)
    i, j = torch.triu_indices(w.shape[-2], w.shape[-2], 1)
    return (unit @ unit.mT)[..., i, j].clamp(-1, 1).acos().rad2deg().flatten()


def angles_before_and_after(run: Run) -> tuple[str, Tensor, Tensor]:
    """Return name and angles of the largest hidden layer, before training (drawn again, and checked) and after."""
    result, recipe = run.result(), run.recipe()
    if "options" not in result:
        raise RunError("of an older version, which did not log the options of the network")
    torch.manual_seed(recipe.seed)  # as in the loop
    model = create_model(recipe.model, **result["options"])
    start = result["start"]["energy"]
    hidden = [layer for layer in start if start[layer]["role"] == "hidden"]
    if not hidden:
        raise RunError("the network has no hidden layer")
    name = max(hidden, key=lambda layer: neurons(model.get_submodule(layer)).numel())
    first = neurons(model.get_submodule(name))
    if not math.isclose(diagnose(first).half_space_energy, start[name]["half"], rel_tol=1e-3):
        raise RunError("this version initializes the network differently")
    before = angles(first)
    model.load_state_dict(run.weights("last"))
    return name, before, angles(neurons(model.get_submodule(name)))


def histogram(values: Tensor, width: float) -> list[tuple[float, float]]:
    """Return the share of angles, in percent, in bins of ``width`` degrees, as the corners of a step function."""
    shares = 100 * torch.histc(values, bins=round(180 / width), min=0, max=180) / len(values)
    first, last = shares.nonzero()[[0, -1], 0].tolist()
    edges = [i * width for i in range(first, last + 2) for _ in range(2)]
    heights = shares[first : last + 1].repeat_interleave(2).tolist()
    return list(zip(edges, [0.0, *heights, 0.0], strict=True))

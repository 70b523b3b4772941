"""What a report shows, gathered from run folders or from a table of runs."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from comhe.regularizers import diagnose, neurons
from comhe.train.compare.compare import CELL, EPOCHS, read_records, record_of
from comhe.train.recipe import Recipe
from comhe.train.runs.run import Run
from comhe.zoo import create_model

from .curves import Curves, curves_beside, curves_of

COLUMNS = (*CELL, "seed", *(f"{epoch}_{split}" for epoch in EPOCHS for split in ("val", "test")), "seconds")


@dataclass
class Material:
    """Records as :func:`comhe.train.compare.compare.table` takes them, the runs behind them, and how many are not done.

    ``curves`` has those of every run, by its cell."""

    records: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[tuple[str, ...], list[Curves]] = field(default_factory=dict)
    runs: list[tuple[Recipe, Path]] = field(default_factory=list)
    environments: list[dict[str, Any]] = field(default_factory=list)
    unfinished: int = 0


def gather(sources: Sequence[Path]) -> Material:
    """All runs in folders, at any depth, and in files ``*-runs.csv``.

    Raises:
        ValueError: no finished run, a run twice, or runs of one cell with different settings.
    """
    found = Material()
    for source in sources:
        if source.is_dir():
            for path in sorted(source.rglob("recipe.json")):
                _add_run(found, Run(path.parent))
        elif source.suffix == ".csv" and source.is_file():
            _add_table(found, source)
        else:
            raise ValueError(f"{source} is neither a folder of runs nor a file like kipf-runs.csv")
    if not found.records:
        cut = f" ({found.unfinished} are not done)" if found.unfinished else ""
        raise ValueError(f"no finished run in {', '.join(map(str, sources))}{cut}; make some with comhe compare")
    _check(found)
    return found


def _add_run(found: Material, run: Run) -> None:
    if not run.done:
        found.unfinished += 1
        return
    found.records.append(record_of(run))
    found.runs.append((run.recipe(), run.folder))
    found.curves.setdefault(cell(run.recipe()), []).append(curves_of(run.folder))
    found.environments.append(run.environment())


def _add_table(found: Material, path: Path) -> None:
    with path.open(newline="") as file:
        names = next(csv.reader(file), [])
    if missing := [name for name in COLUMNS if name not in names]:
        raise ValueError(f"{path} is no table of runs (*-runs.csv): it has no column {', '.join(missing)}")
    records, curves = read_records(path), curves_beside(path)
    found.records += records
    panels = {tuple(record[key] for key in CELL[:3]) for record in records}
    if curves and len(panels) > 1:
        raise ValueError(f"{path} has curves beside it, but several recipes, models or data sets; keep them apart")
    for (regularizer, _), run in curves.items():
        found.curves.setdefault((*min(panels), regularizer), []).append(run)


def _check(found: Material) -> None:
    seen: set[tuple] = set()
    for record in found.records:
        key = tuple(record[k] for k in (*CELL, "seed"))
        if key in seen:
            raise ValueError(f"{' '.join(map(str, key[:4]))} seed {key[4]} is there twice; name each run once")
        seen.add(key)
    settings: dict[tuple, tuple[Recipe, Path]] = {}
    for recipe, folder in found.runs:
        first, other = settings.setdefault(cell(recipe), (recipe, folder))
        if first != recipe.replace(seed=first.seed):
            raise ValueError(f"{other} and {folder} are one cell with different settings; report them apart")


def cell(recipe: Recipe) -> tuple[str, ...]:
    return tuple(getattr(recipe, key) for key in CELL)


def angles(w: Tensor) -> Tensor:
    """Angles in degrees between all pairs of neurons [..., N, d], one after the other."""
    unit = torch.nn.functional.normalize(w.detach().double(), dim=-1)
    i, j = torch.triu_indices(w.shape[-2], w.shape[-2], 1)
    return (unit @ unit.mT)[..., i, j].clamp(-1, 1).acos().rad2deg().flatten()


def angles_before_and_after(run: Run) -> tuple[str, Tensor, Tensor]:
    """Name and angles of the hidden layer with the most weights, before and after training.

    The folder is enough: the first weights are made again from the recipe's seed, and checked by their noted energy.

    Raises:
        ValueError: a run of an older version, a model that is built otherwise today, or no hidden layer.
    """
    result, recipe = run.result(), run.recipe()
    if "options" not in result:
        raise ValueError("of an older version, which did not note what the network was built with")
    torch.manual_seed(recipe.seed)  # as in the loop
    model = create_model(recipe.model, **result["options"])
    start = result["start"]["energy"]
    hidden = [layer for layer in start if start[layer]["role"] == "hidden"]
    if not hidden:
        raise ValueError("the network has no hidden layer")
    name = max(hidden, key=lambda layer: neurons(model.get_submodule(layer)).numel())
    first = neurons(model.get_submodule(name))
    if not math.isclose(diagnose(first).half_space_energy, start[name]["half"], rel_tol=1e-3):
        raise ValueError("its first weights could not be made again: this version draws others")
    before = angles(first)
    model.load_state_dict(run.weights("last"))
    return name, before, angles(neurons(model.get_submodule(name)))

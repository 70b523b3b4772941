"""Pretrained weights from runs of one recipe over seeds: the file, and the card that describes it."""

import dataclasses
import hashlib
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from comhe.datasets import AlteredDataWarning, describe, license_of, load_data
from comhe.errors import RunError, UsageError, WeightsError, warn
from comhe.train.engine.log import layer_energies
from comhe.train.recipe import SIZES, Recipe, check_part_of_name, find_domain, get_recipe
from comhe.train.runs.files import check_writable, open_atomic, write_text
from comhe.train.runs.fingerprint import check_unchanged
from comhe.train.runs.run import Run, environment
from comhe.train.start import other_classes
from comhe.train.task import Task, check_recipe, make_task
from comhe.zoo import Weights, load_weights, model_domain
from comhe.zoo.preprocessing import from_card, to_card

from .foreign import explained
from .statistics import mean_std

LIBRARIES = ("torch", "torchvision", "torch-geometric", "safetensors", "numpy")
SPLITS = ("val", "test")
Metrics = dict[str, dict[str, float]]  # by split and name


def publish(runs: Sequence[Run], output: Path, suffix: str = "", root: str | None = None, device: str = "auto") -> Path:
    """Publish weights of the best seed on validation, of one recipe's ``runs``; return the path of their card.

    Matrices are in half precision if that changes the validation accuracy by less than 0.05 %. Metrics on the card are
    those of the stored weights; those over seeds are the runs' own. By default ``suffix`` is the tag of the recipe, if
    it has one.
    """
    recipe, results = same_recipe(runs)
    best = {run: results[run.folder]["best"] for run in runs}
    chosen = min(runs, key=lambda run: (-best[run]["val_accuracy"], best[run]["val_loss"], run.recipe().seed))
    recipe = chosen.recipe()
    check_recipe(recipe, device)
    path = card_path(recipe, output, suffix)
    check_writable(output)
    task = make_task(recipe, root, device)
    if (settings := results[chosen.folder].get("preprocessing")) is not None:
        task.adopt(from_card(settings))  # of a run that started from weights
    model = task.model().to(task.device)
    state = chosen.weights("best")
    stored = halved(state)
    now, then = _accuracy(task, model, state), best[chosen]["val_accuracy"]
    if abs(now - then) > 0.05:  # rounding changes the class of a few samples
        found = f"its weights have {100 * now:.2f} % on validation now, and had {100 * then:.2f} % when trained"
        raise RunError(f"{chosen.folder}: {found}: the code or the data have changed since; train the run again")
    if stored is None or abs(_accuracy(task, model, stored) - now) >= 5e-4:
        stored = state
    load_weights(model, stored)
    name, file = path.stem, path.with_suffix(".safetensors").name
    data = save(stored)
    trained = chosen.environment()
    card = {
        "name": name,
        "model": recipe.model,
        "options": task.options,
        "data": census(recipe, root),
        "preprocessing": to_card(task.transforms()),
        "recipe": dataclasses.asdict(recipe),
        "seed": recipe.seed,
        "regularizer": recipe.regularizer,
        "metrics": {
            "of": "the stored weights, of the validation-selected epoch of the seed with the best validation accuracy",
            "epoch": best[chosen]["epoch"],
            **metrics_of(task, model),
        },
        "seeds": over_seeds(list(results.values())) | {"seeds": sorted(run.recipe().seed for run in runs)},
        "energy": layer_energies(task.regularizer(model)),
        "parameters": sum(p.numel() for p in model.parameters()),
        "commit": trained["commit"],
        "trained": trained,
        "published": environment() | {"libraries": {library: version(library) for library in LIBRARIES}},
        "file": file,
        "bytes": len(data),
        "dtype": "float16 matrices" if stored is not state else "as trained",
        "sha256": hashlib.sha256(data).hexdigest(),
        "url": None,
    }
    with open_atomic(output / file) as weights:
        weights.write(data)
    write_text(path, json.dumps(card, indent=1, allow_nan=False) + "\n")  # last: a card promises that its file is there
    return path


def card_path(recipe: Recipe, output: Path, suffix: str = "") -> Path:
    """Return where the card of weights that this recipe trained is put; the weights stand next to it."""
    check_part_of_name("suffix", suffix)
    return output / ("-".join(filter(None, (recipe.name, suffix or recipe.tag))) + ".json")


def evaluate(
    recipe: Recipe,
    state: Mapping[str, Tensor],
    root: str | None = None,
    device: str = "auto",
    trained: Weights | None = None,
) -> tuple[list[str], Metrics]:
    """Evaluate weights on the recipe's data set: notes, and metrics by split and name.

    If it is known how they were ``trained``, the data are brought to the same form, which the notes say.
    """
    check_recipe(recipe, device)
    task = make_task(recipe, root, device)
    if trained is not None:
        _check_sizes(task, trained)
    notes = [] if trained is None else [task.adopt(trained.transforms()), other_classes(task.classes, trained)]
    model = task.model().to(task.device)
    with explained(recipe.data):
        load_weights(model, state)
    return [note for note in notes if note], metrics_of(task, model)


def _check_sizes(task: Task, trained: Weights) -> None:
    """Raise UsageError unless the data have as many classes, and channels or features, as the weights were made for."""
    sizes, data = task.options, task.recipe.data
    for option, what in SIZES.items():
        if option in sizes and sizes[option] != (theirs := trained.options.get(option, sizes[option])):
            raise UsageError(f"{data} has {sizes[option]:,} {what}, but {trained.name} was trained on {theirs:,}")


def recipe_of(weights: Weights, data: str | None = None) -> Recipe:
    """Return the recipe on a card. A setting that the card does not have yet has its default, which was done then.

    A card of a model that was not trained here has none: then it is the usual one of the network, for these ``data``.
    """
    if not weights.card["recipe"]:
        if data is None:
            raise UsageError(f"{weights.name} was not trained by comhe: say with --data what to evaluate it on")
        recipe = get_recipe(None, weights.model, data, "none")
        sizes = recipe.example_sizes
        return recipe.replace(model_options={k: v for k, v in weights.options.items() if k not in sizes})
    kind = find_domain(weights.card["preprocessing"]["kind"]).recipe
    known = {f.name for f in dataclasses.fields(kind)}
    if unknown := sorted(set(weights.card["recipe"]) - known):
        raise WeightsError(f"{weights.path}: this version's {kind.__name__} has no setting {', '.join(unknown)}")
    return kind(**weights.card["recipe"])


def check_split(recipe: Recipe, environment: object, trained: str, data: str | None = None) -> None:
    """Raise RunError if the files of a recipe's data have changed since it was ``trained`` in an ``environment``.

    The split is drawn among the files, so that among those tested now are some that the network has seen. If these
    ``data`` are asked for by name, a warning says so.
    """
    if data not in (None, recipe.data):
        return
    digest = environment.get("data") if isinstance(environment, Mapping) else None
    advice = "" if data else "; restore the files, or name the data with --data to insist"
    try:
        check_unchanged(recipe.dataset, digest, trained, f"it may be tested on what it was trained on{advice}")
    except RunError as error:
        if data is None:
            raise
        warn(str(error))


def metrics_of(task: Task, model: nn.Module) -> Metrics:
    """Return the task's metrics of a model on the two splits that it was not trained on."""
    return {split: task.evaluate(model, split) for split in SPLITS}


def census(recipe: Recipe, root: str | None) -> dict[str, Any]:
    """Return a description of the data set, with its license and whether the files on disk were the published ones."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AlteredDataWarning)
        data = load_data(recipe.dataset, root, model_domain(recipe.model))
    altered = any(issubclass(warning.category, AlteredDataWarning) for warning in caught)
    names = {"class names": list(data.classes)} if getattr(data, "classes", ()) else {}
    return describe(data) | names | {"license": license_of(recipe.dataset), "as published": not altered}


def same_recipe(runs: Sequence[Run]) -> tuple[Recipe, dict[Path, dict[str, Any]]]:
    """Return the recipe that all runs share except for the seed, and their results by folder."""
    if not runs:
        raise UsageError("name at least one run folder to publish")
    for run in runs:
        if not run.done:
            inside = any(run.folder.glob("seed*/result.json"))
            advice = f"name the runs in it: {run.folder}/seed*" if inside else "train it to its end first"
            raise RunError(f"{run.folder} is not a finished run; {advice}")
    first, *_ = recipes = [run.recipe() for run in runs]
    for run, recipe in zip(runs, recipes, strict=True):
        run.check_plugins()
        run.check_data(recipe, "metrics would be of another split; restore the files, or train the run again")
        if differing := [k for k, v in vars(recipe).items() if k != "seed" and v != getattr(first, k, None)]:
            what = f"another recipe than {runs[0].folder}: they differ in {', '.join(differing)}"
            raise UsageError(f"{run.folder} is of {what}")
    seeds = [recipe.seed for recipe in recipes]
    if repeated := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        raise UsageError(f"two of the runs have seed {repeated[0]}; list each run once")
    return first, {run.folder: run.result() for run in runs}


def halved(state: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Round matrices, but not vectors (biases, batch norms), to half precision; None if a value is too large."""
    result = {n: t.half() if t.is_floating_point() and t.dim() > 1 else t for n, t in state.items()}
    return result if all(t.isfinite().all() for t in result.values()) else None


def over_seeds(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the number of seeds, and mean and standard deviation (None for one seed) of accuracy, for both epochs."""
    summary: dict[str, Any] = {"n": len(results)}
    for epoch in ("last", "best"):
        summary[epoch] = {}
        for split in SPLITS:
            mean, std = mean_std([result[epoch][f"{split}_accuracy"] for result in results])
            summary[epoch][f"{split}_accuracy"] = {"mean": mean, "std": None if math.isnan(std) else std}
    return summary


def _accuracy(task: Task, model: nn.Module, state: dict[str, Tensor]) -> float:
    load_weights(model, {name: t.float() if t.dtype == torch.float16 else t for name, t in state.items()})
    return task.evaluate(model, "val")["accuracy"]

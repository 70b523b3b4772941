"""Fine-tuning: pretrained weights, a new head, a trunk that is frozen or learns at a lower rate."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import nn

from comhe.errors import UsageError, WeightsError, few, warn
from comhe.zoo import Loaded, Weights, get_weights, list_weights, load_weights
from comhe.zoo.cards import has_card, is_path, is_shared
from comhe.zoo.match import NO_HEAD
from comhe.zoo.state import parts_of, weights_file

from .predict import RunWeights, open_weights
from .recipe import SIZES, Recipe, told_sizes
from .runs.run import Run


def with_start(recipe: Recipe) -> Recipe:
    """Return the recipe with the options that its starting weights' network was built with; ``model_options`` go first.

    If the weights are a file, a run or from the Hub, the beginning of the file's sha256 is in ``weights_digest``:
    another file under the same name makes another run.

    Raises:
        UsageError: the weights are those of another network.
        WeightsError: there are no such weights, or they are not those that ``weights_digest`` says.

    Example:
        >>> from comhe.train import get_recipe
        >>> recipe = get_recipe("kipf", "gcn", "cora", "none", weights="gcn.cora-none")
        >>> with_start(recipe).label
        'gcn.cora-none+model_dropout=0.8,model_hidden_channels=32,weights=gcn.cora-none'
    """
    if not recipe.weights:
        for name in ("weights_key", "swap_head", "adapt_input", "freeze", "layer_decay"):
            if getattr(recipe, name) != getattr(type(recipe), name):
                raise UsageError(f"{name} is for a run that starts from weights; name them with weights")
        return recipe
    model, options = _origin(recipe.weights, recipe.model)
    if model not in ("", recipe.model):
        raise UsageError(f"{recipe.weights} has weights of {model}, not of {recipe.model}; train {model}")
    usual = recipe.model_arguments()
    saved = {
        name: value
        for name, value in options.items()
        if name not in recipe.example_sizes and (name not in usual or usual[name] != value)
    }
    digest = _digest(recipe.weights, recipe.model)
    if recipe.weights_digest not in ("", digest):
        changed = f"its sha256 begins with {digest}, not {recipe.weights_digest}"
        raise WeightsError(f"{recipe.weights} has changed since this recipe was made: {changed}")
    return recipe.replace(model_options=saved | recipe.model_options, weights_digest=digest)


def _digest(weights: str, model: str) -> str:
    """Return the beginning of the sha256 of a file of weights; nothing for named ones, which have a card."""
    source = _source(weights, model)
    if is_shared(source):
        return get_weights(source).card["sha256"][:12]
    if isinstance(source, str) and not is_path(source):
        return ""
    path = Path(source)
    if has_card(path):
        return get_weights(path).card["sha256"][:12]
    try:
        digests = [_file_digest(part, part.stat().st_mtime_ns, part.stat().st_size) for part in parts_of(path)]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()[:12]
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error


@lru_cache(maxsize=64)
def _file_digest(path: Path, changed: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def model_of(weights: str, usual: str) -> str:
    """Return the name of the network that weights belong to; ``usual`` if they are a file that does not say so."""
    return _origin(weights, usual)[0] or usual


def load_start(model: nn.Module, recipe: Recipe) -> Loaded | None:
    """Load the weights that a recipe starts from, and freeze what it says; None if it starts from chance.

    What begins anew is not frozen, wherever it is.
    """
    if not recipe.weights:
        return None
    source = _source(recipe.weights, recipe.model)
    try:
        key = recipe.weights_key or None
        own = RunWeights(recipe.weights, source.parent, {}) if isinstance(source, Path) else source
        loaded = load_weights(model, own, recipe.swap_head, adapt_input=recipe.adapt_input, key=key)
    except WeightsError as error:
        if recipe.swap_head:
            _head(model)
        build = {name: value for name, value in error.build.items() if name not in SIZES}
        sizes = "" if error.load else told_sizes(error.build)
        problem = _as_setting(error.problem) + (f"; they are for data with {sizes}" if sizes else "")
        load = {option: what or "to fit the first layer to these data" for option, what in error.load.items()}
        raise WeightsError(problem, build, load) from error
    ignored = [f"{few(loaded.ignored)} ignored: the network has no place for them"] if loaded.ignored else []
    for note in [*loaded.notes, *ignored]:
        warn(f"{recipe.weights}: {_as_setting(note)}")
    if recipe.freeze == "trunk":
        head = _head(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(head) or name in loaded.initialized)
    return loaded


def _as_setting(text: str) -> str:
    """What load_weights says, with the name that its argument has in a recipe."""
    return re.sub(r"\bkey=", "weights_key=", text)


def start_weights(recipe: Recipe) -> Weights | None:
    """Return the weights that a recipe starts from; None if there are none that say how they were trained."""
    if not recipe.weights:
        return None
    source = _source(recipe.weights, recipe.model)
    if isinstance(source, Path):
        return open_weights(source.parent) if "preprocessing" in Run(source.parent).result() else None
    return None if is_path(source) and not has_card(source) else get_weights(source)


def other_classes(classes: Sequence[str], trained: Weights) -> str:
    """Say that classes have other names, or another order, than those that the weights were trained on."""
    theirs = trained.card["data"].get("class names")
    pairs = list(zip(theirs or (), classes, strict=False))
    if len(theirs or ()) != len(classes) or not (odd := [pair for pair in pairs if pair[0] != pair[1]]):
        return ""
    return f"class {pairs.index(odd[0])} is {odd[0][1]!r}, but {odd[0][0]!r} in the data of these weights"


def keep_frozen_norms(model: nn.Module) -> None:
    """Put modules that are frozen into evaluation mode: batch norm keeps its running mean and deviation."""
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def layer_scales(model: nn.Module, decay: float) -> dict[str, float]:
    """Return factors of the learning rate by parameter: 1 for the last layer, and ``decay`` more for each before it.

    A layer is a child of the model, or an entry of a list of them (``layer1.0``).

    Example:
        >>> layer_scales(nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1)), 0.5)
        {'0.weight': 0.5, '1.weight': 1.0, '1.bias': 1.0}

    Source: Howard & Ruder, *Universal Language Model Fine-tuning for Text Classification*, ACL 2018.
    """
    layers = {name: _layer(name) for name, _ in model.named_parameters()}
    depth = {layer: index for index, layer in enumerate(dict.fromkeys(layers.values()))}
    return {name: decay ** (len(depth) - 1 - depth[layer]) for name, layer in layers.items()}


def _layer(name: str) -> str:
    first, *rest = name.split(".")
    return f"{first}.{rest[0]}" if rest and rest[0].isdigit() else first


def _head(model: nn.Module) -> str:
    head = getattr(model, "output_layer", None)
    if not isinstance(head, str):
        raise UsageError(f"{type(model).__name__} {NO_HEAD}")
    return f"{head}."


def _source(weights: str, model: str) -> str | Path:
    """Return the file of a run, or the name with the model's before it if that is needed, or the path."""
    path, known, full = weights_file(weights), list_weights(), f"{model}.{weights}"
    if path.is_dir():
        return path / "best.safetensors"
    if path != Path(weights):
        return str(path)
    return full if full in known and weights not in known else weights


def _origin(weights: str, model: str) -> tuple[str, Mapping[str, Any]]:
    """Return the network of the weights and its options, as far as they say so."""
    source = _source(weights, model)
    if isinstance(source, Path):
        run = Run(source.parent)
        return run.recipe().model, run.result()["options"]
    if is_path(source) and not has_card(source):
        if not Path(source).is_file():
            raise WeightsError(f"{source}: no such file")
        return "", {}
    found = get_weights(source)
    return found.model, found.options

"""Models for others: a folder, or a repository on the Hugging Face Hub, that ``create_model`` loads by its name."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from comhe.errors import UsageError, WeightsError

from . import hub
from .cards import CARD, FIELDS, Weights, get_weights, read_card
from .catalog import BUILT_AS, build_model, model_domain
from .preprocessing import KINDS, to_card
from .weights import load_state, unwrap

FILE = "model.safetensors"
PIPELINES = {"images": "image-classification", "graphs": "graph-ml"}  # what the Hub calls a model's task

Source = Weights | nn.Module | str | os.PathLike[str]


def save_pretrained(source: Source, folder: str | os.PathLike[str], **fields: Any) -> Weights:
    """Write a model to a folder that ``create_model("local-dir:FOLDER")`` loads, and return it as weights.

    ==================  ==========================================================================
    model.safetensors   the weights
    model.json          their card, with the sha256 of the weights: it is what is read again
    config.json         what timm writes in its: architecture, arguments, classes, preprocessing
    README.md           the card for people
    ==================  ==========================================================================

    Args:
        source: weights, by their name or as of :func:`comhe.zoo.get_weights`; or a model.
        fields: what the card of a model says, and what to change in a card. For a model ``data`` (``name``, ``class
            names``, ``license`` ...), ``preprocessing`` (one of ``comhe.zoo.preprocessing``) and ``metrics`` (by
            split and name) are required, for one that ``create_model`` did not build also ``model`` and ``options``.

    Raises:
        UsageError: the card would lack a field.
        WeightsError: ``create_model(model, **options)`` builds another network than this one.

    Example:
        >>> from comhe.zoo import create_model
        >>> weights = save_pretrained("gcn.citations-none", "my-gcn")
        >>> create_model("local-dir:my-gcn").output_layer == create_model("gcn", weights="citations-none").output_layer
        True
    """
    if isinstance(source, nn.Module):
        data, card = _describe(unwrap(source), fields)
    else:
        weights = source if isinstance(source, Weights) else get_weights(source)
        data, card = weights.read(), {**weights.card, **fields}
    if lacking := [f"{name} ({kind.__name__})" for name, kind in FIELDS.items() if type(card.get(name)) is not kind]:
        raise UsageError(f"the card of these weights has no {', '.join(lacking)}; give it as a keyword")
    card |= {"file": FILE, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "url": None}
    try:
        text = json.dumps(card, indent=1, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise UsageError(f"a card contains names, numbers, lists and dicts of them ({error})") from error
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD).unlink(missing_ok=True)  # a card promises that its file is there
    _write(folder / FILE, data)
    _write(folder / CARD, text.encode())
    found = Weights(card["name"], folder / CARD, read_card(folder / CARD))
    _write(folder / "config.json", (json.dumps(config_of(found), indent=2) + "\n").encode())
    _write(folder / "README.md", readme_of(found, f"local-dir:{folder}").encode())
    return found


def push_to_hub(
    source: Source,
    name: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    message: str | None = None,
    **fields: Any,
) -> str:
    """Commit what :func:`save_pretrained` writes to a repository, ``OWNER/NAME`` or ``OWNER/NAME@BRANCH``.

    The repository and the branch are created if they do not exist. The name that is returned ends with the commit, so
    that ``create_model`` loads these very weights with it, whatever is committed later.

    Args:
        private: whether a new repository is; by default as its owner has set.
        token: of an account that may write there, by default that of ``hf auth login`` or ``HF_TOKEN``.
        message: of the commit.

    Example:
        >>> push_to_hub("gcn.citations-none", "not a repository")
        Traceback (most recent call last):
        comhe.errors.UsageError: 'hf-hub:not a repository' is not a repository; write hf-hub:OWNER/NAME, or ...
    """
    name = name if name.startswith(hub.PREFIX) else f"{hub.PREFIX}{name}"
    hub.split_name(name)
    with tempfile.TemporaryDirectory() as folder:
        weights = save_pretrained(source, folder, **fields)
        _write(Path(folder, "README.md"), readme_of(weights, name).encode())
        message = message or f"{weights.name}, sha256 {weights.card['sha256'][:12]}"
        repository, commit = hub.upload(Path(folder), name, message, private=private, token=token)
    return f"{hub.PREFIX}{repository}@{commit}"


def config_of(weights: Weights) -> dict[str, Any]:
    """Return what timm's ``config.json`` says of a model, as far as it applies.

    Example:
        >>> config_of(get_weights("resnet8.glyphs-none"))["pretrained_cfg"]["input_size"]
        [3, 32, 32]
    """
    options, preprocessing = weights.options, weights.card["preprocessing"]
    pretrained: dict[str, Any] = {"tag": weights.name}
    if preprocessing.get("kind") == "images":
        size, resize = list(preprocessing["size"]), preprocessing.get("resize")
        pretrained |= {"input_size": [3, *size], "mean": preprocessing["mean"], "std": preprocessing["std"]}
        pretrained |= {"interpolation": "bilinear", "crop_pct": size[0] / resize if resize else 1.0}
    found = {"architecture": weights.model, "library_name": "comhe", "model_args": options}
    if "num_classes" in options:
        found["num_classes"] = pretrained["num_classes"] = options["num_classes"]
        found["label_names"] = list(weights.classes)
    return found | {"pretrained_cfg": pretrained}


def readme_of(weights: Weights, name: str) -> str:
    """Return a page about weights, in Markdown, that tells how to load them by this name."""
    card = weights.card
    domain = model_domain(weights.model)
    head = ["---", "library_name: comhe", "tags:", "- comhe", "- hyperspherical-energy"]
    head += [f"pipeline_tag: {PIPELINES[domain]}"] if domain in PIPELINES else []
    lines = [*head, "---", "", f"# {weights.name}", ""]
    regularizer = card.get("regularizer") or card["recipe"].get("regularizer")
    how = f", trained with the regularizer `{regularizer}`" if regularizer else ""
    lines += [f"`{weights.model}` for {card['data'].get('name', 'data without a name')}{how}.", ""]
    lines += ["```python", "from comhe.zoo import create_model, get_weights", ""]
    lines += [f'model = create_model("{name}")', f'weights = get_weights("{name}")  # .predict(...), .card', "```", ""]
    rows = [
        f"| {split} | {metric} | {value:.4g} |"
        for split, metrics in card["metrics"].items()
        if isinstance(metrics, Mapping)
        for metric, value in metrics.items()
        if isinstance(value, int | float)
    ]
    lines += ["| split | metric | of these weights |", "|---|---|---|", *rows, ""] if rows else []
    over = card["seeds"].get("best", {}).get("test_accuracy") if card["seeds"].get("n", 0) > 1 else None
    if over:
        lines += [f"Test accuracy over {card['seeds']['n']} seeds: {over['mean']:.4f} ± {over['std']:.4f}.", ""]
    if terms := card["data"].get("license"):
        lines += [f"License of the data: {terms}.", ""]
    return "\n".join([*lines, f"SHA-256 of `{card['file']}`: `{card['sha256']}`.", ""])


def _describe(model: nn.Module, fields: Mapping[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """Return a model's tensors as a file, and the fields of its card that are known."""
    architecture, options = getattr(model, BUILT_AS, (None, None))
    card: dict[str, Any] = {"model": architecture, "options": options, "recipe": {}, "seeds": {}} | dict(fields)
    if card["model"] is None or card["options"] is None:
        kind = type(model).__name__
        raise UsageError(f"this {kind} was not built by create_model: give its name and arguments as model=, options=")
    name = card["model"]
    if type(card.get("preprocessing")) in KINDS.values():
        card["preprocessing"] = to_card(card["preprocessing"])
    on = card["data"].get("name", "own") if isinstance(card.get("data"), dict) else "own"
    card.setdefault("name", f"{name}.{on}-{card.get('regularizer', 'none')}")
    card |= {"file": FILE, "sha256": "", "parameters": sum(p.numel() for p in model.parameters())}
    state = {key: value.detach().cpu().clone().contiguous() for key, value in model.state_dict().items()}
    try:
        load_state(build_model(name, **card["options"]), state)
    except (WeightsError, UsageError) as error:
        how = "give the arguments that it has now as options=, or register_model a builder of it"
        raise WeightsError(
            f"create_model({name!r}, **{card['options']}) is not this network: {error}; {how}"
        ) from error
    return save(state), card


def _write(path: Path, data: bytes) -> None:
    """Write a file so that no half of it is ever there."""
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(data)
    part.replace(path)

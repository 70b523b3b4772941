"""Pretrained weights by name: a safetensors file, and beside it a card that says all there is to know about it."""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from .preprocessing import Transform, from_card
from .registry import create_model, natural
from .state import read_state

FOLDER = Path(__file__).parent / "pretrained"
TORCHVISION = ("resnet18", "resnet34", "resnet50")  # models of which torchvision publishes weights
FIELDS = ("name", "model", "options", "data", "preprocessing", "recipe", "metrics", "seeds", "file", "sha256")
KINDS = {"name": str, "model": str, "options": dict, "preprocessing": dict, "file": str, "sha256": str}
MAX_CARD = 1 << 22  # bytes; published ones have some thousand


@dataclass(frozen=True, repr=False)
class Weights:
    """Pretrained weights: what their card says, their tensors (checked), and their preprocessing.

    >>> weights = get_weights("gcn.cora-rp-comhe")
    >>> weights.card["metrics"]["test"]["accuracy"], weights.card["seeds"]["best"]["test_accuracy"]["mean"]
    >>> weights.classes[weights.predict(image).argmax()]

    Attributes:
        name: ``<model>.<data>-<regularizer>``, perhaps with a suffix.
        path: of the card.
        card: the card, as ``comhe publish`` wrote it.
    """

    name: str
    path: Path
    card: Mapping[str, Any]

    @property
    def model(self) -> str:
        """The name of the network."""
        return self.card["model"]

    @property
    def options(self) -> dict[str, Any]:
        """What ``create_model`` needs to build it."""
        return dict(self.card["options"])

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, or their numbers where the data set has no names, in the order of the logits."""
        return tuple(self.card["data"].get("class names") or map(str, range(self.options["num_classes"])))

    @torch.inference_mode()
    def predict(self, inputs: Any, *graph: Any) -> Tensor:
        """Probabilities of the classes for raw inputs: preprocessing, network and softmax.

        To train it further, or on another device, there are ``create_model(..., weights=...)`` and :meth:`transforms`.

        Args:
            inputs: what :meth:`transforms` takes: images, clouds, or the features of a graph's nodes.
            graph: for a graph network, the edges [2, E].

        Shapes:
            B images or clouds, or one -> float32 [B, classes]; N nodes -> [N, classes]
        Errors: ValueError for inputs that do not fit.
        """
        return self._network(self.transforms()(inputs), *graph).softmax(-1)

    @cached_property
    def _network(self) -> nn.Module:
        return create_model(self.model, weights=self.path).eval()

    def transforms(self) -> Transform:
        """The preprocessing that the network was trained with, as a function of raw inputs.

        Errors: ValueError if the card does not describe one.
        """
        try:
            return from_card(self.card["preprocessing"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{self.path}: preprocessing {self.card['preprocessing']} is unknown") from error

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors, in float32 where they are stored in half precision.

        Errors: ValueError, one line, if the file is not there or not the one that the card describes.
        """
        path = self._file()
        data = path.read_bytes()
        digest, wanted = hashlib.sha256(data).hexdigest(), self.card["sha256"]
        if digest != wanted:
            raise ValueError(
                f"{path}: truncated or altered: sha256 of its {len(data):,} bytes is {digest[:12]}..., its card says "
                f"{wanted[:12]}...; remove it and install or download it again"
            )
        try:
            state = load(data)
        except (SafetensorError, KeyError, ValueError, RuntimeError) as error:  # the last three: of an unknown type
            raise ValueError(f"{path}: not a safetensors file ({error})") from error
        return {name: t.float() if t.dtype == torch.float16 else t for name, t in state.items()}

    def _file(self) -> Path:
        path, url = self.path.with_name(self.card["file"]), self.card.get("url")
        if path.is_file():
            return path
        if not url:
            raise ValueError(f"{self.name}: its card is here, but {path} is not, and the card has no url to fetch it")
        if not isinstance(url, str):
            raise ValueError(f"{self.path}: its url is no address but {url!r}")
        path = Path(torch.hub.get_dir()) / "checkpoints" / self.card["file"]
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:  # into a temporary file, which is renamed once its sha256 is right
                torch.hub.download_url_to_file(url, str(path), hash_prefix=self.card["sha256"], progress=False)
            except (OSError, RuntimeError, ValueError, HTTPException) as error:  # ValueError: it is no address
                raise ValueError(f"{self.name} could not be downloaded from {url} ({error})") from error
        return path

    def __repr__(self) -> str:
        return f"get_weights({self.name!r})"


def list_weights(pattern: str = "*") -> list[str]:
    """Names of the pretrained weights that match the shell-style ``pattern``, or whose model does; natural order."""
    names = [path.stem for path in FOLDER.glob("*.json")]
    matching = [n for n in names if fnmatch.fnmatchcase(n, pattern) or fnmatch.fnmatchcase(n.split(".")[0], pattern)]
    return sorted(matching, key=lambda name: [natural(part) for part in name.split(".", 1)])


def get_weights(name: str | os.PathLike) -> Weights:
    """The weights called ``name``, or the published file (or its card) at that path.

    Errors: ValueError for an unknown name (the nearest are told), a file without its card, a card that is none.
    """
    if is_path(name):
        path = Path(name).with_suffix(".json")
        if not path.is_file():
            raise ValueError(f"{name}: no card {path.name} beside it")
    else:
        path = FOLDER / f"{name}.json"
        if not path.is_file():
            raise ValueError(_unknown(str(name)))
    try:
        with path.open("rb") as file:
            card = json.loads(file.read(MAX_CARD))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a card ({error})") from error
    if not isinstance(card, dict):
        raise ValueError(f"{path}: not a card: it holds a {type(card).__name__}")
    if missing := [field for field in FIELDS if field not in card]:
        raise ValueError(f"{path}: not a card: it has no {', '.join(missing)}")
    for field, kind in KINDS.items():
        if not isinstance(card[field], kind):
            raise ValueError(f"{path}: not a card: its {field} is no {kind.__name__} but {str(card[field])[:60]}")
    # A name, or it could lead to any file; a whole checksum, or a download would be compared with a part of one.
    if not re.fullmatch(r"[^/\\\0]{1,200}\.safetensors", card["file"]) or not re.fullmatch(
        "[0-9a-f]{64}", card["sha256"]
    ):
        raise ValueError(f"{path}: not a card: {card['file'][:60]!r} is no file's name, or its sha256 is none")
    return Weights(card["name"], path, card)


def find(model: str, weights: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What to build ``model`` with and what to load into it, for what a user calls ``weights``.

    That is the name of its weights, with or without the model's before it; the path of a published file, or of any
    state dict (for which nothing is known to build it with); or, for :data:`TORCHVISION`'s models, torchvision's name.
    """
    if is_path(weights):
        if not Path(weights).with_suffix(".json").is_file():
            return {}, read_state(weights)
        found = get_weights(weights)
    else:
        known = [name for name in (str(weights), f"{model}.{weights}") if (FOLDER / f"{name}.json").is_file()]
        if not known and model in TORCHVISION:
            from .images.resnet import published_weights  # here, so that the other networks do without torchvision

            return {}, published_weights(model, str(weights))
        if not known:
            raise ValueError(_unknown(str(weights), model))
        found = get_weights(known[0])
    if found.model != model:
        raise ValueError(f"{found.name} holds weights of {found.model}, not of {model}")
    return found.options, found.state_dict()


def is_path(name: str | os.PathLike) -> bool:
    """Whether a file is meant and not a name."""
    return not isinstance(name, str) or os.sep in name or Path(name).is_file()


def _unknown(name: str, model: str = "") -> str:
    known = list_weights()
    full = name if name.startswith(f"{model}.") else f"{model}.{name}"
    near = difflib.get_close_matches(full if model else name, known, n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(known) or 'none'}"
    return f"unknown weights {name!r}{f' of {model}' if model else ''}; {hint}"

"""Pretrained weights by name: a safetensors file, and next to it a card that says what it is."""

import fnmatch
import hashlib
import json
import os
import re
import sys
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

from comhe.errors import MissingPackageError, UsageError, WeightsError, did_you_mean, first_line

from . import hub
from .catalog import build_model
from .preprocessing import GraphTransform, PointTransform, Transform, from_card
from .registry import natural_key
from .state import weights_file
from .weights import load_state

FOLDER = Path(__file__).parent / "pretrained"
FIELDS: dict[str, type] = {
    "name": str, "model": str, "options": dict, "data": dict, "preprocessing": dict, "recipe": dict, "metrics": dict,
    "seeds": dict, "file": str, "sha256": str,
}  # fmt: skip
MAX_CARD = 1 << 22  # bytes; published ones have some thousand
CARD = "model.json"  # in a folder, or a repository, that has the weights of one model
LOCAL = "local-dir:"
FILES = (".pt", ".pth", ".ckpt", ".tar", ".bin", ".safetensors", ".pkl", ".npy", ".npz", ".json")  # not names


@dataclass(frozen=True, repr=False)
class Weights:
    """Pretrained weights: their card, their tensors (checked against it), their network and their preprocessing.

    The name is ``<model>.<data>-<regularizer>``, perhaps with a suffix; ``path`` is the card's, ``source`` the
    repository and commit of weights from the Hugging Face Hub.

    Example:
        >>> get_weights("gcn.cora-rp-comhe").card["metrics"]["test"]["accuracy"]
        0.833
    """

    name: str
    path: Path
    card: Mapping[str, Any]
    source: str = ""

    @property
    def model(self) -> str:
        """The name of the network."""
        return self.card["model"]

    @property
    def options(self) -> dict[str, Any]:
        """The options of ``create_model`` that the network was built with."""
        return dict(self.card["options"])

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes in the order of the logits; their numbers where the data set has no names."""
        return tuple(self.card["data"].get("class names") or map(str, range(self.options["num_classes"])))

    def build(self, swap_head: bool = False, adapt_input: bool = False, **overrides: Any) -> nn.Module:
        """Build the network with these weights; ``overrides`` replace options of the card."""
        state = self.state_dict()
        size = sum(tensor.numel() for tensor in state.values())
        for option, value in self.options.items():
            if isinstance(value, int) and value > size:  # or building it could take any memory
                raise WeightsError(f"{self.path}: it says {option}={value}, but the weights are only {size:,} numbers")
        options = self.options | overrides
        try:
            model = build_model(self.model, **options)
        except (TypeError, ValueError, RuntimeError) as error:
            mistakes = UsageError if overrides else MissingPackageError  # the caller's, not the card's
            if isinstance(error, mistakes):
                raise
            reason = first_line(error)
            raise WeightsError(f"{self.path}: {self.model!r} cannot be built with {options} ({reason})") from error
        load_state(model, state, swap_head, f"{self.name}: ", adapt_input=adapt_input, known=True)
        return model

    @torch.inference_mode()
    def predict(self, inputs: Any, edge_index: Any = None, edge_weight: Any = None, *, up: str | None = None) -> Tensor:
        """Return the probabilities of the classes for raw inputs: preprocessing, network (on the CPU) and softmax.

        Images and clouds are paths, arrays and tensors (and PIL images), one of them or a list; ``up`` is the axis that
        points up in the clouds (``x``, ``y`` or ``z``), if it is not the card's. A graph is ours, or a ``Data`` of
        PyTorch Geometric; or the features of its nodes, with edges [2, E] (or a scipy adjacency) and perhaps weights
        [E]. Edges are prepared as in training: in one direction or both. To train the network further, or to use
        another device, call :meth:`build` and :meth:`transforms`.

        Shape: B images or clouds, or one of them -> float32 [B, classes]; N nodes -> [N, classes]
        """
        transform = self.transforms()
        if up is not None and not isinstance(transform, PointTransform):
            raise UsageError(f"up={up!r} is for point clouds, which {self.name} does not take")
        if not isinstance(transform, GraphTransform) and not (edge_index is None and edge_weight is None):
            raise UsageError(f"{self.name} takes no edges; give several images or clouds as one list, predict([a, b])")
        if isinstance(transform, PointTransform):
            return self._network(transform(inputs, up)).softmax(-1)
        if not isinstance(transform, GraphTransform):
            return self._network(transform(inputs)).softmax(-1)
        if edge_index is None and getattr(inputs, "edge_index", None) is not None:  # a graph
            edge_index, edge_weight = inputs.edge_index, getattr(inputs, "edge_weight", None)
            inputs = inputs.features if hasattr(inputs, "features") else inputs.x
        if edge_index is None:
            raise UsageError(f"{self.name} classifies the nodes of a graph: give predict(features, edge_index)")
        from .graphs import prepare_graph  # here, because it registers the graph networks

        x = transform(inputs)
        edges, weight = transform.edges(edge_index, x.shape[0], edge_weight)
        x, graph, _ = prepare_graph(self._network, x, edges, edge_weight=weight)
        return self._network(x, graph).softmax(-1)

    @cached_property
    def _network(self) -> nn.Module:
        return self.build().eval()

    def transforms(self) -> Transform:
        """Return the preprocessing that the network was trained with, as a function of raw inputs."""
        try:
            settings = self.card["preprocessing"]
            if settings["kind"] == "points" and (up := self.card["data"].get("up")):  # older cards say it there
                settings = {"up": up} | settings
            return from_card(settings)
        except (KeyError, TypeError) as error:
            raise WeightsError(f"{self.path}: preprocessing {self.card['preprocessing']} is unknown") from error

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors of the file that the card describes, in float32 where it stores half precision."""
        try:
            state = load(self.read())
        except (SafetensorError, KeyError, ValueError, RuntimeError) as error:  # the last three: of an unknown type
            if isinstance(error, WeightsError):
                raise
            raise WeightsError(f"{self._file()}: not a safetensors file ({error})") from error
        return {name: t.float() if t.dtype == torch.float16 else t for name, t in state.items()}

    def read(self) -> bytes:
        """Return the content of the file that the card describes, if it has the sha256 that the card says."""
        path = self._file()
        data = path.read_bytes()
        digest, expected = hashlib.sha256(data).hexdigest(), self.card["sha256"]
        if digest != expected:
            found = f"sha256 of its {len(data):,} bytes is {digest[:12]}..., its card says {expected[:12]}..."
            how = "remove it and install or download it again"
            raise WeightsError(f"{path.resolve()}: truncated or altered: {found}; {how}")
        return data

    def _file(self) -> Path:
        path, url = self.path.with_name(self.card["file"]), self.card.get("url")
        if path.is_file():
            return path
        if self.source:
            return hub.fetch(self.source, self.card["file"])
        if not url:
            raise WeightsError(f"{path}: no such file, and its card {self.path.name} has no url to download it from")
        if not isinstance(url, str):
            raise WeightsError(f"{self.path}: its url must be an address, not {url!r}")
        path = Path(torch.hub.get_dir()) / "checkpoints" / self.card["file"]
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:  # into a temporary file, which is renamed once its sha256 is right
                torch.hub.download_url_to_file(
                    url, str(path), hash_prefix=self.card["sha256"], progress=sys.stderr.isatty()
                )
            except (OSError, RuntimeError, ValueError, HTTPException) as error:  # ValueError: it is not an address
                raise WeightsError(f"{self.name} could not be downloaded from {url} ({error})") from error
        return path

    def __repr__(self) -> str:
        return f"get_weights({(self.source or self.name)!r})"


def list_weights(pattern: str = "*") -> list[str]:
    """List the pretrained weights whose name, or whose model, matches a shell-style pattern, in natural order.

    Example:
        >>> list_weights("gcn")[:2]
        ['gcn.citations-ap-comhe', 'gcn.citations-hs-mhe']
    """
    names = [path.stem for path in FOLDER.glob("*.json")]
    matching = [n for n in names if fnmatch.fnmatchcase(n, pattern) or fnmatch.fnmatchcase(n.split(".")[0], pattern)]
    return sorted(matching, key=lambda name: [natural_key(part) for part in name.split(".", 1)])


def get_weights(name: str | os.PathLike[str]) -> Weights:
    """Return the weights with this name, or those of a published file or card at this path.

    ``hf-hub:OWNER/NAME`` names those of a repository on the Hugging Face Hub (``pip install 'comhe[hub]'``), perhaps
    with ``@REVISION``: a branch, a tag or a commit. ``local-dir:PATH`` names those of a folder that ``save_pretrained``
    wrote.

    Example:
        >>> get_weights("gcn.cora-rp-comhe").model
        'gcn'
    """
    source = ""
    if is_shared(name) and str(name).startswith(hub.PREFIX):
        path = hub.fetch(str(name), CARD)
        source = f"{hub.PREFIX}{hub.split_name(str(name))[0]}@{path.parent.name}"
    elif is_shared(name):
        path = Path(str(name).removeprefix(LOCAL)).expanduser() / CARD
        if not path.is_file():
            why = f"the folder has no {CARD}; save_pretrained writes one"
            raise WeightsError(f"{name}: {why if path.parent.is_dir() else 'there is no such folder'}")
    elif is_path(name):
        path = card_path(name)
        if not path.is_file():
            if not (weights_file(name).exists() or path.with_suffix(".safetensors").exists()):
                raise WeightsError(f"{name}: no such file or folder")
            how = "load_weights(model, path) reads weights without one"
            raise WeightsError(f"{name}: {no_card(name)}; {how}")
    else:
        path = FOLDER / f"{name}.json"
        if not path.is_file():
            raise WeightsError(f"unknown weights {str(name)!r}; {unknown_weights(str(name))}")
    card = read_card(path)
    return Weights(card["name"], path, card, source)


def unknown_weights(name: str, full: str = "") -> str:
    """Return the end of an error about weights that have no such name: what it may be instead.

    Example:
        >>> unknown_weights("best.pth")
        'there is no such file either, and `comhe list weights` shows the names'
    """
    if name and Path(name).is_dir():
        return "it is a folder; give the file of weights in it"
    many = "there is no such file either, and `comhe list weights` shows the names"
    return many if name.lower().endswith(FILES) else did_you_mean(full or name, list_weights(), many)


def find_weights(model: str, name: str) -> Weights | None:
    """Return the weights with this name, with or without the model's before it; None if there are none."""
    if is_shared(name):
        return get_weights(name)
    known = [full for full in (name, f"{model}.{name}") if (FOLDER / f"{full}.json").is_file()]
    return get_weights(known[0]) if known else None


def is_shared(name: object) -> bool:
    """Whether this is meant as ``hf-hub:OWNER/NAME`` or ``local-dir:PATH``."""
    return isinstance(name, str) and name.startswith((hub.PREFIX, LOCAL))


def is_path(name: str | os.PathLike[str]) -> bool:
    """Whether this is meant as a path and not as a name."""
    return not isinstance(name, str) or (not is_shared(name) and (os.sep in name or weights_file(name).is_file()))


def has_card(path: str | os.PathLike[str]) -> bool:
    """Whether the card of a weights file is next to it; any other JSON file of that name is none.

    Example:
        >>> _ = Path("best.json").write_text('{"lr": 0.1}')  # a note of its trainer
        >>> has_card("best.safetensors")
        False
    """
    card = card_path(path)
    if not card.is_file():
        return False
    try:
        with card.open("rb") as file:
            content = json.loads(file.read(MAX_CARD))
    except (ValueError, RecursionError):
        return True  # a damaged one
    return isinstance(content, dict) and any(field in content for field in ("sha256", "preprocessing"))


def card_path(path: str | os.PathLike[str]) -> Path:
    """The path of the card of a weights file; the suffix may be missing, and the name may contain dots."""
    path = weights_file(path)
    path = path.with_name(path.name.removesuffix(".index.json"))  # of weights in several files
    stem = path.stem if path.suffix in (".json", ".safetensors") else path.name
    return path.with_name(f"{stem}.json")


def no_card(source: str | os.PathLike[str]) -> str:
    """Return the part of an error that says which card a file of weights, or a folder of one, lacks."""
    if weights_file(source) != Path(source):
        return f"there is no card {CARD} in it"
    return f"there is no card {card_path(source).name} next to it"


def read_card(path: Path) -> dict[str, Any]:
    """Return the card in a file, once it has what a card must have."""
    try:
        with path.open("rb") as file:
            card = json.loads(file.read(MAX_CARD))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not a card ({error})") from error
    if not isinstance(card, dict):
        raise WeightsError(f"{path}: not a card but a {type(card).__name__}")
    if missing := [field for field in FIELDS if field not in card]:
        raise WeightsError(f"{path}: not a card: it lacks {', '.join(missing)}")
    for field, kind in FIELDS.items():
        if not isinstance(card[field], kind):
            raise WeightsError(f"{path}: not a card: {field} must be {kind.__name__}, not {str(card[field])[:60]}")
    # A name, or it could lead to any file; a full checksum, or a download would be compared with a part of one.
    if not re.fullmatch(r"[^/\\\0]{1,200}\.safetensors", card["file"]):
        raise WeightsError(f"{path}: not a card: {card['file'][:60]!r} is not the name of a safetensors file")
    if not re.fullmatch("[0-9a-f]{64}", card["sha256"]):
        raise WeightsError(f"{path}: not a card: {card['sha256'][:80]!r} is not a sha256")
    if "licence" in card["data"]:  # what cards before 0.2 call it
        card["data"]["license"] = card["data"].pop("licence")
    return card

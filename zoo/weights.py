"""State dicts into models, all of it or an error."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from .cards import get_weights, is_path
from .state import PREFIXES, plain, read_state, shown

_NAMED = 4  # keys of each kind that an error spells out


@dataclass(frozen=True)
class Loaded:
    """What :func:`load_weights` did with each of the model's tensors, by name, in the model's order.

    Attributes:
        loaded: taken from the weights.
        missing: counters of batches that the weights did not have; no forward needs them.
        fresh: of a swapped head, left as the model was initialised.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    fresh: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors loaded"]
        parts += [f"missing: {_some(self.missing)}"] if self.missing else []
        parts += [f"left as initialised: {', '.join(self.fresh)}"] if self.fresh else []
        return "; ".join(parts)


def load_weights(model: nn.Module, weights: Mapping[str, Any] | str | os.PathLike, swap_head: bool = False) -> Loaded:
    """Load weights strictly. Only a head for another number of classes may stay out, and only when asked.

    The head is the layer that the model names in its attribute ``output_layer`` (``"fc"``), the one whose tensors have
    a dimension for ``num_classes``. A head that fits is loaded, ``swap_head`` or not.

    Args:
        model: left as it is if there is an error; may be wrapped by ``torch.compile`` or ``DataParallel``.
        weights: a full name of ``list_weights()``, whose file is checked against its card; the path of a safetensors
            file or a checkpoint; or tensors by name, as of ``model.state_dict()``. ``module.`` and ``_orig_mod.``
            before all names are ignored, and layouts that the model's class knows (its ``translate``) are converted.
        swap_head: let a head for another number of classes keep the weights that it has.

    Returns:
        What was loaded and what was not.
    Errors: ValueError naming what is missing, unexpected or of another shape, or both numbers of classes; for an
        unknown name, the nearest.
    """
    if isinstance(weights, Mapping):
        state = plain(weights)
    elif not is_path(weights) or os.path.exists(os.path.splitext(weights)[0] + ".json"):
        state = get_weights(weights).state_dict()
    else:
        state = read_state(weights)
    return load_state(model, state, swap_head, "" if isinstance(weights, Mapping) else f"{weights}: ")


def load_state(model: nn.Module, state: Mapping[str, Tensor], swap_head: bool, where: str) -> Loaded:
    """:func:`load_weights` of tensors by name; errors begin with `where` these are from."""
    while (prefix := _wrapped(model)) is not None:
        model = getattr(model, prefix)
    own = model.state_dict()
    if state.keys() - own.keys() and hasattr(model, "translate"):
        state = model.translate(state)

    counters = [name for name in own if name not in state and name.endswith("num_batches_tracked")]
    missing = [name for name in own if name not in state and name not in counters]
    unexpected = [name for name in state if name not in own]
    misfits = [name for name in own if name in state and own[name].shape != state[name].shape]

    head = [n for n in own if hasattr(model, "output_layer") and n.startswith(f"{model.output_layer}.")]
    classes = _classes([(state[name].shape, own[name].shape) for name in head if name in state])
    if classes and not missing and not unexpected and set(misfits) <= set(head):
        if not swap_head:
            raise ValueError(
                f"{where}the weights are for {classes[0]} classes, this {type(model).__name__} has {classes[1]}: build "
                f"it with num_classes={classes[0]}, or pass swap_head=True to leave {', '.join(head)} as initialised"
            )
        fresh = head
    elif missing or unexpected or misfits:
        shapes = [f"{name} {list(state[name].shape)}, not {list(own[name].shape)}" for name in misfits]
        kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        faults = "; ".join(f"{kind}: {_some(names)}" for kind, names in kinds if names)
        raise ValueError(
            f"{where}the weights do not fit this {type(model).__name__} ({faults}); build the model with the options "
            "that they were saved with"
        )
    else:
        fresh = []
    loaded = tuple(name for name in own if name in state and name not in fresh)
    for name in loaded:
        if fault := _fault(state[name], own[name]):
            raise ValueError(f"{where}{name} {fault}; the file is damaged, or the training that made it had diverged")
    model.load_state_dict({name: state[name] for name in loaded}, strict=False)
    return Loaded(loaded, tuple(counters), tuple(fresh))


def _wrapped(model: nn.Module) -> str | None:
    """The attribute that holds the whole of a wrapped model."""
    names = [name for name, _ in model.named_children()]
    return next((p[:-1] for p in PREFIXES if names == [p[:-1]]), None)


def _classes(shapes: Iterable[tuple[tuple[int, ...], tuple[int, ...]]]) -> tuple[int, int] | None:
    """The numbers of classes in two heads, if that is all they differ in: in one dimension of every tensor.

    Several output heads beside each other (GAT) make it a multiple in some tensors: all differ by one ratio, and the
    smallest are the classes.
    """
    pairs = []
    for theirs, ours in shapes:
        differing = [pair for pair in zip(theirs, ours, strict=False) if pair[0] != pair[1]]
        if len(theirs) != len(ours) or len(differing) != 1 or 0 in differing[0]:
            return None
        pairs += differing
    ratios = {Fraction(*pair) for pair in pairs}
    return min(pairs) if len(ratios) == 1 else None


def _fault(theirs: Tensor, ours: Tensor) -> str:
    """What is wrong with the numbers of a tensor that has the right shape."""
    if theirs.layout != torch.strided or theirs.is_quantized or theirs.is_meta != ours.is_meta:
        return "is no plain tensor"
    if theirs.is_complex() or (theirs.is_floating_point() and not ours.is_floating_point()):
        return f"has numbers of type {theirs.dtype}, not {ours.dtype}"
    if theirs.is_floating_point() and not theirs.is_meta and not (finite := theirs.float().isfinite()).all():
        return f"has {finite.numel() - int(finite.sum()):,} numbers of {finite.numel():,} that are not finite"
    return ""


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = len(names) - _NAMED
    return ", ".join(map(shown, names[:_NAMED])) + (f" and {more} more" if more > 0 else "")

"""Loading of a state dict into a model: every tensor fits, or nothing is loaded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn

from comhe.errors import WeightsError

from .state import PREFIXES, printable

_NAMED = 4  # keys of each kind that an error spells out

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Loaded:
    """What :func:`comhe.zoo.load_weights` did with each of the model's tensors, by name, in the model's order.

    ``missing`` are counters of batches that the weights lack and no forward pass needs; ``initialized``, tensors of a
    swapped head, left as the model initialized them.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    initialized: tuple[str, ...]

    def __str__(self) -> str:
        text = f"{len(self.loaded)} tensors loaded"
        text += f"; missing: {_list(self.missing)}" if self.missing else ""
        return text + (f"; initialized: {', '.join(self.initialized)}" if self.initialized else "")


def load_state(model: nn.Module, state: State, swap_head: bool = False, source: str = "") -> Loaded:
    """Load tensors by name, as :func:`comhe.zoo.load_weights` describes; errors begin with their ``source``."""
    model = _unwrap(model)
    expected = model.state_dict()
    if state.keys() - expected.keys() and hasattr(model, "adapt"):
        state = model.adapt(state)  # type: ignore[operator]
    absent = [name for name in expected if name not in state]
    counters = [name for name in absent if name.endswith("num_batches_tracked")]
    missing = [name for name in absent if name not in counters]
    unexpected = [name for name in state if name not in expected]
    misshapen = [name for name in expected if name in state and expected[name].shape != state[name].shape]
    head = [name for name in expected if name.startswith(f"{getattr(model, 'output_layer', None)}.")]
    other_head = not missing and not unexpected and set(misshapen) <= set(head)
    initialized: list[str] = []
    if other_head and (classes := _other_classes([(state[name], expected[name]) for name in head if name in state])):
        if not swap_head:
            raise WeightsError(
                f"{source}the weights are for {classes[0]} classes, this {type(model).__name__} has {classes[1]}; "
                f"build it with num_classes={classes[0]}, or pass swap_head=True to keep the initial {', '.join(head)}"
            )
        initialized = head
    elif missing or unexpected or misshapen:
        shapes = [f"{name} {list(state[name].shape)}, not {list(expected[name].shape)}" for name in misshapen]
        kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        faults = "; ".join(f"{kind}: {_list(names)}" for kind, names in kinds if names)
        raise WeightsError(
            f"{source}the weights do not fit this {type(model).__name__} ({faults}); build the model with the options "
            "that they were saved with"
        )
    loaded = [name for name in expected if name in state and name not in initialized]
    for name in loaded:
        if fault := _fault(state[name], expected[name]):
            raise WeightsError(f"{source}{name} {fault}; the file is damaged, or the training run had diverged")
    model.load_state_dict({name: state[name] for name in loaded}, strict=False)
    return Loaded(tuple(loaded), tuple(counters), tuple(initialized))


def _other_classes(head: list[tuple[Tensor, Tensor]]) -> tuple[int, int] | None:
    """The numbers of classes of the weights and of the model, if these are all that differs in two heads' tensors.

    They differ in one dimension of each tensor. Several output heads (GAT) make it a multiple in some tensors: all
    dimensions differ by one ratio, and the smallest are the classes.
    """
    pairs = []
    for theirs, ours in head:
        differing = [pair for pair in zip(theirs.shape, ours.shape, strict=False) if pair[0] != pair[1]]
        if theirs.dim() != ours.dim() or len(differing) != 1 or 0 in differing[0]:
            return None
        pairs += differing
    return min(pairs) if len({Fraction(*pair) for pair in pairs}) == 1 else None


def _unwrap(model: nn.Module) -> nn.Module:
    """The model inside the wrappers of ``torch.compile`` and ``DataParallel``."""
    while len(children := dict(model.named_children())) == 1 and f"{next(iter(children))}." in PREFIXES:
        (model,) = children.values()
    return model


def _fault(theirs: Tensor, ours: Tensor) -> str:
    """What is wrong with the numbers of a tensor that has the right shape."""
    if theirs.layout != torch.strided or theirs.is_quantized or theirs.is_meta != ours.is_meta:
        return "is not a dense tensor with values"
    if theirs.is_complex() or (theirs.is_floating_point() and not ours.is_floating_point()):
        return f"has numbers of type {theirs.dtype}, not {ours.dtype}"
    if theirs.is_floating_point() and not theirs.is_meta and not (finite := theirs.float().isfinite()).all():
        return f"has {finite.numel() - int(finite.sum()):,} numbers of {finite.numel():,} that are not finite"
    return ""


def _list(names: Iterable[str]) -> str:
    names = list(names)
    more = len(names) - _NAMED
    return ", ".join(map(printable, names[:_NAMED])) + (f" and {more} more" if more > 0 else "")

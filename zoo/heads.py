"""Which tensors of a state dict are the last layer, whatever it is called."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .state import State

# What others call the last layer. Trailing parts: the sequence or the module that it may be in.
HEAD = re.compile(r"(fc|linear|classifier|head|heads|last_linear|output|out|logits|cls|cls_head|predictions?|final)"
                  r"(\.\d+|\.fc|\.linear|\.classifier|\.head)?\.(weight|bias)")  # fmt: skip

# In names of what takes the trunk's output beside the head, and of what may make it.
SIDE = re.compile(r"projector|proj(ection)?_head|pred|proto|aux|decod|momentum")
POOL = re.compile(r"pool|gem\b")
# In names of classifiers that normalize features and weights: their logits are cosines, perhaps with a margin.
NORMALIZED = re.compile(
    r"(arc|cos|sphere|ada|mag)_?face|am_?softmax|cosine|angular|margin|metric|prox(y|ies)|normali?[sz]?ed"
)


@dataclass(frozen=True)
class Head:
    """A layer that fits as the model's last one: its tensors by the model's names, and by their own."""

    layer: str
    tensors: State
    originals: State
    notes: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)  # tensors of such layers for other numbers of classes
    normalized: bool = False  # probably not a linear layer: its logits are cosines


@dataclass(frozen=True)
class Slot:
    """The model's last layer: the names of its weight and its bias, and the weight's shape."""

    weight: str
    bias: str | None
    shape: tuple[int, ...]

    @property
    def layer(self) -> str:
        return self.weight.rpartition(".")[0]


def slot_of(expected: State, head: list[str]) -> Slot | None:
    """Return the last layer of a model; None if it is not a matrix and at most a bias."""
    weights = [name for name in head if name.endswith(".weight")]
    biases = [name for name in head if name.endswith(".bias")]
    if len(weights) != 1 or len(biases) != len(head) - 1 or len({n.rpartition(".")[0] for n in head}) != 1:
        return None
    shape = tuple(expected[weights[0]].shape)
    return Slot(weights[0], next(iter(biases), None), shape) if _flat(expected[weights[0]]) is not None else None


def find_head(state: State, unmatched: Collection[str], slot: Slot) -> tuple[Head | None, list[str]]:
    """Find the last layer among the tensors that the model has no names for: by its name, else by its shape.

    It is not taken if other layers may stand between it and the trunk.

    Returns:
        the head, or None; and the layers among which the shape does not decide, or one that is probably normalized
    """
    layers: dict[str, list[str]] = {}
    groups: dict[str, set[str]] = {}
    for name in unmatched:
        layer = name.rpartition(".")[0] or name
        layers.setdefault(layer, []).append(name)
        groups.setdefault(name.partition(".")[0], set()).add(layer)
    known = [layer for layer, names in layers.items() if any(map(HEAD.fullmatch, names))]
    inner = ((layer, names) for layer, names in layers.items() if layer not in names)
    fitting = {layer: head for layer, names in inner if (head := _fitted(state, layer, names, slot))}
    trunk = {name.partition(".")[0] for name in state.keys() - {*unmatched}}
    outer = {
        layer: {name: state[name] for name in names}
        for layer, names in layers.items()
        if layer.partition(".")[0] not in trunk and not SIDE.search(layer)
    }
    if len(known) == 1 and known[0] in fitting:
        before = _between(outer, known[0], slot)
        if before or fitting[known[0]].normalized:
            return None, sorted({*before, known[0]})
        return fitting[known[0]], []
    alone = {layer: head for layer, head in fitting.items() if len(groups[layer.partition(".")[0]]) == 1}
    exact = [layer for layer, head in alone.items() if len(head.tensors[slot.weight]) == slot.shape[0]]
    if len(found := exact or list(alone)) != 1:
        return None, sorted(found)
    if (before := _between(outer, found[0], slot)) or alone[found[0]].normalized:
        return None, sorted({*before, *found})
    head = alone.pop(found[0])
    head.notes.insert(0, f"{found[0]!r} is taken as the last layer, by its shape")
    head.others.extend(name for other in alone.values() for name in other.originals)
    return head, []


def _between(layers: Mapping[str, State], head: str, slot: Slot) -> set[str]:
    """Return the layers, of those beside the trunk, by which its outputs may go to the head: they leave as they came.

    They are norms and scales of as many numbers, whatever poolings learn, and matrices, one or several in a row, from
    as many inputs to as many outputs.
    """
    found, matrices = set[str](), []
    for layer, tensors in layers.items():
        wide = {name: t for name, t in tensors.items() if t.dim() == 2 or (t.dim() > 2 and t.shape[1] > 1)}
        if layer == head:
            continue
        matrices += [(layer, t, re.search(r"weight_ih_l\d", name) is not None) for name, t in wide.items()]
        if POOL.search(layer) or (not wide and any(t.shape[:1] == slot.shape[1:2] for t in tensors.values())):
            found.add(layer)
    widths = {slot.shape[1]}
    while more := {t.shape[0] for _, t, _ in matrices if t.shape[1] in widths} - widths:
        widths |= more
    wanted = slot.shape[1]
    return found | {layer for layer, t, loops in matrices if t.shape[1] in widths and (loops or t.shape[0] == wanted)}


def own_head(state: State, slot: Slot) -> Head | None:
    """Give a head under the model's own name the model's form: transposed, a 1x1 convolution, or without a bias."""
    names = [name for name in state if name.rpartition(".")[0] == slot.layer]
    if {*names} == {slot.weight, slot.bias} - {None} and state[slot.weight].shape[1:] == slot.shape[1:]:
        return None
    return _fitted(state, slot.layer, names, slot)


def is_head_name(name: str) -> bool:
    """Whether a tensor has the name of a last layer, perhaps in a sequence: ``fc.weight``, ``encoder.head.2.bias``."""
    parts = name.split(".")[-3:] if re.search(r"\.(\d+|fc|linear|classifier|head)\.\w+$", name) else [name]
    return HEAD.fullmatch(".".join(parts)) is not None


def heads_of_trunk(unexpected: State, slot: Slot) -> set[str]:
    """Return the modules, by the first part of their names, that are matrices only and take what the trunk returns.

    Or what another of them returns: ``projection_head``, and ``prototypes`` after it.
    """
    groups: dict[str, list[Tensor]] = {}
    for name, tensor in unexpected.items():
        groups.setdefault(name.partition(".")[0], []).append(tensor)
    flat = {group: [_flat(t) for t in tensors if t.dim() > 1] for group, tensors in groups.items()}
    matrices = {group: [m for m in found if m is not None] for group, found in flat.items() if None not in found}
    widths, found = {slot.shape[1]}, set[str]()
    while more := {g for g, ms in matrices.items() if g not in found and any(m.shape[1] in widths for m in ms)}:
        found |= more
        widths |= {len(m) for group in more for m in matrices[group]}
    return found


def _flat(weight: Tensor) -> Tensor | None:
    """A weight as a matrix [out, in]; None if it has positions, too."""
    return weight.flatten(1) if weight.dim() >= 2 and weight.shape[2:].numel() == 1 else None


def _fitted(state: State, layer: str, names: list[str], slot: Slot) -> Head | None:
    """Return the layer as the model's last one, for as many classes as it has; None if it does not fit."""
    parts = {name.rpartition(".")[2]: state[name] for name in names}
    if "weight" not in parts or not parts.keys() <= {"weight", "bias"} or (weight := _flat(parts["weight"])) is None:
        return None
    bias, notes = parts.get("bias"), []
    straight = weight.shape[1] == slot.shape[1] and (bias is None or bias.shape == weight.shape[:1])
    if not straight:
        weight = weight.t()
        if parts["weight"].dim() != 2 or weight.shape[1] != slot.shape[1]:
            return None
        if bias is not None and bias.shape != weight.shape[:1]:
            return None
        notes = [f"{layer}.weight is transposed"]
    shape = torch.Size((len(weight), *slot.shape[1:]))
    tensors = {slot.weight: parts["weight"] if parts["weight"].shape == shape else weight.reshape(shape)}
    if slot.bias is None:
        if bias is not None and (bias.is_meta or bias.any()):
            return None
    elif bias is None:
        tensors[slot.bias] = weight.new_zeros(len(weight))
        notes.append(f"{slot.bias} is zero, because {layer!r} has no bias")
    else:
        tensors[slot.bias] = bias
    normalized = bias is None and (not straight or NORMALIZED.search(layer) is not None)
    return Head(layer, tensors, {f"{layer}.{part}": t for part, t in parts.items()}, notes, normalized=normalized)

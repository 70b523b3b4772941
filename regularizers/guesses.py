"""Which layers of a model are its output, guessed from names and shapes; see :mod:`.output` for the order of these."""

import re
from collections.abc import Iterator, Sequence

from torch import nn

from comhe.errors import warn

from .branches import (
    CONTAINERS,
    FEW,
    Matrix,
    below,
    branch_ends,
    children,
    ends,
    is_fed,
    join,
    rivals,
    side_by_side,
    together,
    twins,
    unwrapped,
)
from .computed import walk
from .headless import HEADS, headless, is_cut
from .joined import gated, loose_ends, merged, passed_on, takes_joined

WEAK: tuple[str, ...] = ("fc", "cls", "linear", "output", "out", "decoder", "predictor", "out_proj", "prediction")
AUXILIARY = re.compile(r"(^|[._])aux|A(ux|UX)|auxiliary")
# What tells other layers which expert counts, or how maps are scaled, also as a part of a normalization.
_GUIDES = r"gat(e|es|ing)(_(?!\w*(class|cls|head|logits))\w+)?|routers?|film|ada_?ln\w*|\w*modulation"
INNER = re.compile(
    rf"(^|\.)(_?({_GUIDES})(_?(layer|linear|mlp|net|network|proj)s?)?(\.|$)|norm\w*\.linear$)", re.IGNORECASE
)
_REGRESSION = re.compile(
    r"(?<![a-z])(b?box|reg(?!ion|ist|net|ul)|wh(?![a-z])|loc(?![a-z_])|offset|centerness|mask(?!ed)|keypoint|"
    r"seq_relationship|distance)",
    re.IGNORECASE,
)
_CLASSES = re.compile(r"^(cls|class|logits|classif)|classifier$|logits$")

LAST, OUTSIDE = "the last weight matrix", "the last layer outside the base model"
BY_SHAPE = "by its shape: no other layer takes its outputs"
GUESSES = (LAST, OUTSIDE, BY_SHAPE)

Answer = dict[str, str] | None  # None: this question has no answer, ask the next one


def without_aside(possible: Sequence[Matrix], prefix: str, every: Sequence[Matrix]) -> list[Matrix]:
    """All but auxiliary heads, gates and the like. A last module counts, whatever its name is, if nothing else ends."""
    names = {m: m.name.removeprefix(prefix).removeprefix(".") for m in possible}
    rest = [m for m in possible if not _is_aside(names[m])]
    last = names[possible[-1]].split(".")[0] if possible else ""
    if _is_aside(last) and not ends(rest, every):
        return [m for m in possible if m in rest or below(names[m], last)]
    return rest


def _is_aside(name: str) -> bool:
    return bool(AUXILIARY.search(name) or INNER.search(name))


def by_name(core: nn.Module, prefix: str, possible: Sequence[Matrix], every: Sequence[Matrix]) -> Answer:
    """The layers with the name of a head, and how they were found; weaker names only where there is no better one."""
    for known in (HEADS, WEAK):
        found = {}
        for path, child, lasts in _heads(core, prefix, possible, known):
            last = [m for m in possible if m.name in lasts]
            if not any(_goes_on(m, path, possible, every, known is WEAK) for m in last) and not _joined(last, every):
                found[path] = [] if is_cut(child, path.rpartition(".")[2], core) else lasts
                if isinstance(child, CONTAINERS) and len(lasts) == 1:
                    _warn_if_alike([m for m in possible if below(m.name, path)], lasts)
        if not found:
            continue
        found = {path: lasts for path, lasts in found.items() if lasts} or found
        taken = found[list(found)[-1]]
        alike = [last for lasts in found.values() for last in lasts]
        if known is WEAK and len(taken) == 1:
            alike += [name for name in _next_to(core, prefix, possible, every, taken[0]) if name not in alike]
        if len(found) > 1 or len(alike) > len(taken):
            _warn_ambiguous(alike, taken)
        return dict.fromkeys(taken, "by its name")
    return None


def _heads(
    core: nn.Module, prefix: str, possible: Sequence[Matrix], known: Sequence[str]
) -> Iterator[tuple[str, nn.Module, list[str]]]:
    """The children with a name of a head, and their last layers."""
    for path, child in children(core, prefix):
        name = path.rpartition(".")[2]
        if name == "head" and "tail" in core._modules:  # head, body and tail, of networks for super-resolution
            continue
        if name in known and (lasts := last_in(core, prefix, possible, path)):
            yield path, child, lasts


def _goes_on(named: Matrix, path: str, possible: Sequence[Matrix], every: Sequence[Matrix], weak: bool) -> bool:
    """Whether another layer takes the outputs of a layer with a head's name: one after it, or the end of the model.

    One with a weak name that takes inputs of the model goes on as well, if another end does not.
    """
    others = [m for m in every if not below(m.name, path) and not AUXILIARY.search(m.name)]
    others = [m for m in others if m.role != "bare" or m.inputs != named.inputs | named.outputs]  # centers of classes
    after = every[every.index(named) :] if named in every else ()
    if any(_leads(named, m, every) for m in others if m in after):
        return True
    if weak and any(map(named.unfolds, after[1:2])):
        return True
    free = ends(possible, every) if weak else []
    if weak and not is_fed(named, every) and any(is_fed(m, every) for m in free if m in others and m in after):
        return True
    return any(named.feeds(m, flattened=False) for m in others if m in free)


def _leads(matrix: Matrix, other: Matrix, every: Sequence[Matrix]) -> bool:
    """Whether the other one may take these outputs, as flattened maps only if no layer's outputs fit as they are."""
    return matrix.feeds(other, flattened=not is_fed(other, every, flattened=False))


def _joined(heads: Sequence[Matrix], every: Sequence[Matrix]) -> bool:
    """Whether a later layer takes the outputs of several heads side by side, or a layer of one neuron has a rival."""
    after = every[every.index(heads[-1]) + 1 :] if heads[-1] in every else ()
    if len(heads) == 1:
        return heads[0].outputs == {1} and any(m.inputs == heads[0].inputs and max(m.outputs) > 1 for m in after)
    total = sum(min(m.outputs, default=0) for m in heads)  # 0: they are lazy
    return any(total in m.inputs for m in after)


def _next_to(
    core: nn.Module, prefix: str, possible: Sequence[Matrix], every: Sequence[Matrix], taken: str
) -> list[str]:
    """What may be the output as well as a layer with a weak name, and is registered before or after it."""
    named = next(m for m in possible if m.name == taken)
    rest = [m for m in possible if m is named or not _REGRESSION.search(m.name)]
    child = next((path for path, _ in children(core, prefix) if below(taken, path)), taken)
    own = [i for i, m in enumerate(rest) if below(m.name, child)]
    near = rest[max(own[0] - 1, 0) : own[-1] + 2]
    return [m.name for m in rivals(core, prefix, named, rest, ends(rest, every)) if m in near]


def _warn_if_alike(matrices: Sequence[Matrix], taken: Sequence[str]) -> None:
    """Square layers in a list may follow each other or stand side by side."""
    first = matrices[0]
    if len(matrices) > 1 and all((m.inputs, m.outputs) == (first.inputs, first.outputs) for m in matrices):
        _warn_ambiguous([m.name for m in matrices], taken)


def by_shape(core: nn.Module, prefix: str, possible: Sequence[Matrix], every: Sequence[Matrix]) -> Answer:
    """The layers whose outputs no other layer takes, and how they were found; a warning lists others of this kind."""
    possible = [m for m in possible if m.role != "bare" or not m.inputs or any(o.feeds(m) for o in every if o is not m)]
    if not possible:
        return None
    halves = gated(prefix, every)
    possible, free = _free(core, prefix, possible, every, halves)
    last = possible[-1]
    named = [name for _, _, lasts in _heads(core, prefix, possible, HEADS) for name in lasts]
    if last.name not in named and any(not free or last.feeds(m) for m in possible if m.name in named):
        _warn_ambiguous([*named, last.name], named)
        return dict.fromkeys(named, "by its name")
    taken = last if last in free or not free else free[-1]
    encodes = taken.feeds(every[0]) and taken.role == every[0].role
    if encodes and not is_fed(taken, every):  # registered after what it feeds
        taken = next((m for m in reversed(free) if is_fed(m, every)), taken)
    found = together(_members(core, prefix, possible, free) or side_by_side(core, prefix, taken, free), possible)
    if taken is last:
        others = _rivals_of_last(core, prefix, possible, free, every, halves)
    else:
        kept = _leads(last, taken, every) or last in found or _is_beside(core, prefix, taken, possible, every)
        others = free if kept else [*free, last]
    if all(max(m.outputs, default=2) == 1 for m in [*found, *others]):  # there is nothing to choose
        others = []
    if trained := [m for m in others if m.trained and not any(m.trained for m in found)]:
        found = trained[-1:]
    _warn_of_others(core, prefix, possible, found, others)
    return dict.fromkeys((m.name for m in found), LAST if taken is last else BY_SHAPE)


def _free(
    core: nn.Module, prefix: str, possible: Sequence[Matrix], every: Sequence[Matrix], halves: Sequence[Matrix]
) -> tuple[list[Matrix], list[Matrix]]:
    """What may be the output by its name, and those of it whose outputs no other layer takes."""
    free = ends(possible, every)
    for_classes = [m for m in possible if not _REGRESSION.search(m.name)]
    if any(m in free for m in for_classes) or not free:
        possible = for_classes or possible
        free = [m for m in free if m in possible]
    free = [m for m in free if m.role != "convolution" or max(m.outputs) < FEW or not passed_on(m, every)]
    free = [m for m in free if m not in halves]
    last = possible[-1]
    wide = [m for m in free if max(m.outputs, default=2) > 1]  # one neuron has no partner
    if last in free and last not in wide:
        wide = [m for m in wide if m.role == "bare" or not m.inputs & m.outputs]  # no square layers
        if takes_joined(core, prefix, last, wide, every):
            return list(possible), [last]
    return list(possible), wide or free


def _rivals_of_last(
    core: nn.Module,
    prefix: str,
    possible: Sequence[Matrix],
    free: Sequence[Matrix],
    every: Sequence[Matrix],
    halves: Sequence[Matrix],
) -> list[Matrix]:
    """What may be the output as well as the last layer."""
    last = possible[-1]
    others = rivals(core, prefix, last, possible, free) + twins(last, free)
    if not isinstance(core, (nn.Sequential, nn.ModuleList)):
        hidden = [*merged(core, prefix, every), *halves]
        loose = [m for m in loose_ends(possible, every) if m not in hidden]
        others += [m for m in loose if m.outputs & last.outputs or (is_fed(m, every) and is_fed(last, every))]
        joining = [m for m in possible if m.outputs == {1} and FEW <= max(last.outputs, default=0) < min(m.inputs)]
        others += [m for m in joining if not is_fed(m, every)]
        others += [m for m in possible if m.role == "bare" and last.feeds(m, flattened=False)]
    return others


def _is_beside(
    core: nn.Module, prefix: str, taken: Matrix, possible: Sequence[Matrix], every: Sequence[Matrix]
) -> bool:
    """Whether the last layer is one neuron next to the layer that is taken, as the value next to a policy."""
    last = possible[-1]
    own = next((path for path, _ in children(core, prefix) if below(last.name, path)), last.name)
    near = rivals(core, prefix, taken, possible, [last]) + side_by_side(core, prefix, taken, possible)
    alone = not passed_on(taken, [m for m in every if not below(m.name, own)])
    return max(last.outputs, default=2) == 1 and last in near and alone


def _warn_of_others(
    core: nn.Module, prefix: str, possible: Sequence[Matrix], found: Sequence[Matrix], others: Sequence[Matrix]
) -> None:
    """Warn if others may be the output, unless all of them were cut from a head, so that there is no output layer."""
    kept = {m: headless(core, m.name.removeprefix(prefix).removeprefix(".")) is None for m in [*found, *others]}
    if not set(others) <= set(found) and any(kept.values()):
        chosen = [m.name for m in found] if all(kept[m] for m in found) else ["none of them"]
        _warn_ambiguous([m.name for m in possible if m in kept], chosen)


def _members(core: nn.Module, prefix: str, possible: Sequence[Matrix], free: Sequence[Matrix]) -> list[Matrix]:
    """The ends of the members of an ensemble: a list of networks of the same shapes."""
    if not isinstance(core, nn.ModuleList):
        return []
    members = [[m for m in possible if below(m.name, path)] for path, _ in children(core, prefix)]
    shapes = {tuple((m.inputs, m.outputs) for m in member) for member in members}
    last = [member[-1] for member in members if member]
    return last if len(members) > 1 and len(shapes) == 1 and all(m in free for m in last) else []


def last_in(core: nn.Module, prefix: str, possible: Sequence[Matrix], path: str) -> list[str]:
    """The last layer below a module of the core; of several branches those for classes, else all."""
    inside = [m for m in possible if below(m.name, path)]
    inside = [m for m in inside if not _REGRESSION.search(m.name[len(path) :])] or inside
    modules = dict(walk(core, prefix))
    names = _for_classes(inside, path) or {path: None}
    branches = {name: [m for m in inside if below(m.name, name)] for name in names}
    last = {
        name: branch_ends(unwrapped(modules[name]), name, part) if name in modules else part[-1:]
        for name, part in branches.items()
    }
    return [m.name for name, found in last.items() for m in found if not _enters(name, branches, last)]


def _for_classes(inside: Sequence[Matrix], path: str) -> dict[str, None]:
    """The branches below a module that are called after classes, ``cls_tower`` and ``cls_logits``, in order."""
    found = dict[str, None]()
    for m in inside:
        parts = m.name[len(path) :].removeprefix(".").split(".")
        if (end := next((i for i, part in enumerate(parts) if _CLASSES.search(part)), None)) is not None:
            found[join(path, *parts[: end + 1])] = None
    return found


def _enters(name: str, branches: dict[str, list[Matrix]], last: dict[str, list[Matrix]]) -> bool:
    """Whether another branch takes the outputs of this one, and not the other way round."""

    def leads(a: str, b: str) -> bool:
        return any(end.feeds(branches[b][0], flattened=False) for end in last[a])

    return any(leads(name, other) and not leads(other, name) for other in branches if other != name)


def is_named(core: nn.Module) -> bool:
    """Whether a layer or a module right below a model has the name of a head."""
    return any(name in HEADS for name, _ in core.named_children())


def _warn_ambiguous(candidates: Sequence[str], chosen: Sequence[str]) -> None:
    if len({*candidates}) == 1:  # parameters of one module
        return
    named, taken = (", ".join(dict.fromkeys(n or "the model itself" for n in names)) for names in (candidates, chosen))
    said = f"the output layer may be any of {named}; {taken} is taken"
    warn(f"{said}. Name it with output= (output_layers finds it in a forward pass), or pass None if there is none")

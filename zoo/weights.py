"""Loading of a state dict into a model: every tensor fits, or nothing is loaded."""

import re
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn

from comhe.errors import WeightsError

from .adapters.reparametrized import is_reparametrized, plain_weights
from .match import Match, find_match, first_layer, listed, misfit
from .normalization import Stated, stated_normalization
from .state import NEST, NOT_DENSE, PREFIXES, State, is_sharded, select, whole

# What torch.ao.quantization, bitsandbytes and GPTQ store next to integers.
QUANTIZED = re.compile(r"(.*\.)?(zero_point|_packed_params|SCB|absmax|qweight|qzeros)")
UNQUANTIZED = "give the weights from before they were quantized"


@dataclass(frozen=True)
class Loaded:
    """What :func:`comhe.zoo.load_weights` did with each of the model's tensors, by name, in the model's order.

    ``missing`` are counters of batches that the weights lack and no forward pass needs; ``initialized``, tensors of a
    swapped head, left as the model initialized them; ``ignored``, tensors of the weights that belong to other modules.
    ``notes`` say what was decided: an adapted input, what the weights' layout means. ``normalization`` is what a layer
    before the network, which the weights came with, does to images.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    initialized: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    normalization: Stated | None = None

    def __str__(self) -> str:
        text = f"{len(self.loaded)} tensors loaded"
        text += f"; missing: {listed(self.missing)}" if self.missing else ""
        text += f"; initialized: {', '.join(self.initialized)}" if self.initialized else ""
        text += f"; ignored: {listed(self.ignored)}" if self.ignored else ""
        return "; ".join((text, *self.notes))

    @property
    def fresh(self) -> tuple[str, ...]:
        """What ``initialized`` was called before version 0.2."""
        return self.initialized


def load_state(
    model: nn.Module,
    tensors: State,
    swap_head: bool = False,
    source: str = "",
    *,
    adapt_input: bool = False,
    key: str | None = None,
    known: bool = False,
) -> Loaded:
    """Load tensors by name, as :func:`comhe.zoo.load_weights` describes; errors begin with their ``source``.

    Of weights that are ``known`` to be of this network, it is not told what their tensors leave open.
    """
    model = unwrap(model)
    expected = model.state_dict()
    head = [name for name in expected if name.startswith(f"{getattr(model, 'output_layer', None)}.")]
    tensors = select(tensors, key, source) if key else tensors
    if not any(map(is_sharded, expected.values())):
        tensors = whole(tensors, source)
    computed: list[str] = []
    if not is_reparametrized(expected):
        try:
            tensors, computed = plain_weights(tensors)
        except WeightsError as error:
            raise WeightsError(f"{source}{error}") from None
    tensors, stated = stated_normalization(tensors, expected)
    loose = {*head, *(first_layer(expected) if adapt_input else ())}
    match = find_match(model, tensors, head, loose, source)
    notes, initialized = _adapt_input(model, match, source) if adapt_input else ([], [])
    notes = computed + notes
    classes = _other_classes([(match.state[n], expected[n]) for n in head if n in match.state])
    quantized = [name for name in tensors if QUANTIZED.fullmatch(name.replace(NEST, "."))]
    fits = not match.error and match.faults == len(match.misshapen) and set(match.misshapen) <= set(head)
    if quantized and (not fits or (match.headless and not swap_head)):
        raise WeightsError(f"{source}the weights are quantized (they have {listed(quantized)}); {UNQUANTIZED}")
    if fits and (match.headless or classes):
        if not swap_head:
            raise _other_head(model, match, classes, head, source)
        initialized = [*initialized, *head]
    elif match.faults or match.error:
        raise misfit(model, match, source, swap_head, adapt_input)
    loaded = [name for name in expected if name in match.state and name not in initialized]
    for name in loaded:
        if fault := _fault(match.state[name], expected[name]):
            raise WeightsError(f"{source}{name} {fault}")
    state = {name: match.state[name] for name in loaded}
    untold = _load(model, expected, match.theirs, state, source)
    notes += [] if known else untold
    notes += match.notes if set(head) & set(initialized) else match.notes + match.head_notes
    if stated:
        notes.append(f"the weights came with a layer that normalizes images: give normalized ones, by {stated}")
    counters = [name for name in expected if name not in match.state and name not in initialized]
    return Loaded(
        tuple(loaded), tuple(counters), tuple(initialized), _ignored(tensors, match, state), tuple(notes), stated
    )


def _load(model: nn.Module, expected: State, theirs: State, state: State, source: str) -> list[str]:
    """Load tensors that fit, all or none, and return what the model tells of them."""
    before = {name: tensor.clone() for name, tensor in expected.items()}
    try:
        model.load_state_dict(state, strict=False)
        return model.settle(theirs, state) if hasattr(model, "settle") else []  # type: ignore[operator]
    except BaseException as error:
        model.load_state_dict(before)
        if isinstance(error, WeightsError):
            raise WeightsError(f"{source}{error}") from None
        if isinstance(error, RuntimeError) and any(map(is_sharded, expected.values())):
            what = f"this {type(model).__name__} is sharded over processes and takes weights that are sharded like it"
            raise WeightsError(f"{source}{what}; load others before fully_shard") from error
        raise


def _other_head(
    model: nn.Module, match: Match, classes: tuple[int, int] | None, head: list[str], source: str
) -> WeightsError:
    name, swap = type(model).__name__, {"swap_head=True": f"to keep the initial {', '.join(head)}"}
    if classes:
        problem = f"the weights are for {classes[0]} classes, this {name} has {classes[1]}"
        return WeightsError(source + problem, {"num_classes": classes[0]}, swap)
    what = f"another head, {listed(match.unexpected)}," if match.unexpected else "no head"
    advice = ""
    if len(match.undecided) == 1:
        what = f"{match.undecided[0]}.weight without a bias, probably of a normalized (cosine) classifier,"
    elif match.undecided:
        what = f"several layers that could be the head ({listed(match.undecided)})"
        advice = "; leave out those that are no part of the network"
    return WeightsError(f"{source}the weights have {what} where this {name} has {', '.join(head)}{advice}", load=swap)


def _adapt_input(model: nn.Module, match: Match, source: str) -> tuple[list[str], list[str]]:
    """Fit the first convolution to the model's input channels: summed into one, else repeated at the same scale.

    Features of nodes and of points have no such order: matrices [out, features] begin anew. Returns notes, and the
    names of these matrices.
    """
    expected = model.state_dict()
    first, notes, anew = first_layer(expected), list[str](), list[str]()
    for name in [name for name in match.misshapen if name in first]:
        theirs, ours = match.state[name], expected[name]
        if theirs.dim() != ours.dim() or theirs.shape[0] != ours.shape[0] or theirs.is_meta:
            continue
        before, now = theirs.shape[1:2], ours.shape[1:2]
        if ours.dim() == 2:
            anew.append(name)
            notes.append(f"input adapted: {name} begins anew, for {now[0]} features; the weights were for {before[0]}")
        elif ours.dim() == 4 and theirs.shape[2:] == ours.shape[2:]:
            if now[0] == 1:
                fitted, how = theirs.float().sum(1, keepdim=True), "were summed"
            else:
                fitted = theirs.float()[:, torch.arange(now[0]) % before[0]] * (before[0] / now[0])
                how = f"were repeated, times {before[0]}/{now[0]}"
            match.state = {**match.state, name: fitted}
            notes.append(f"input adapted: the {before[0]} channels of {name} {how} to make {now[0]}")
        else:
            continue
        match.misshapen.remove(name)
    unlike = set(match.misshapen) & set(first)
    if unlike and not any(expected[name].dim() in (2, 4) for name in unlike):
        kinds = "a convolution over images or a linear layer"
        raise WeightsError(f"{source}adapt_input=True is for networks whose first layer is {kinds}")
    return notes, anew


def _ignored(tensors: State, match: Match, state: State) -> tuple[str, ...]:
    """Names of what lies beside the network, or is a head that was swapped."""
    used = {id(t) for t in state.values()}
    outside = [name for name, t in tensors.items() if not name.startswith(match.prefix) and id(t) not in used]
    return tuple(name.replace(NEST, ".") for name in outside + match.unexpected + match.aside)


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


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside the wrappers of ``torch.compile`` and ``DataParallel``."""
    while len(children := dict(model.named_children())) == 1 and f"{next(iter(children))}." in PREFIXES:
        (model,) = children.values()
    return model


def _fault(theirs: Tensor, ours: Tensor) -> str:
    """What is wrong with the numbers of a tensor that has the right shape, and what to do."""
    damaged = "the file is damaged, or the training run had diverged"
    if theirs.is_quantized or (ours.is_floating_point() and not (theirs.is_floating_point() or theirs.is_complex())):
        return f"is of type {theirs.dtype}, not {ours.dtype}: it is quantized, or has lost its scale; {UNQUANTIZED}"
    if theirs.layout != torch.strided or theirs.is_meta != ours.is_meta:
        return NOT_DENSE
    if theirs.is_complex() or (theirs.is_floating_point() and not ours.is_floating_point()):
        return f"has numbers of type {theirs.dtype}, not {ours.dtype}; {damaged}"
    if theirs.is_floating_point() and not theirs.is_meta and not (finite := theirs.float().isfinite()).all():
        return (
            f"has {finite.numel() - int(finite.sum()):,} numbers of {finite.numel():,} that are not finite; {damaged}"
        )
    return ""

"""Which tensors of a file are a model's: prefixes, heads and layouts of others are recognized, nothing is guessed."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from comhe.errors import WeightsError, few

from .averages import AVERAGE
from .heads import Slot, find_head, heads_of_trunk, is_head_name, own_head, slot_of
from .state import COUNTERS, NEST, State, alternatives, printable

TRIES = 64  # prefixes that are tried, those of most tensors first
PART = re.compile(r"-\d{5}-of-(\d{5})\.\w+: $")  # as Hugging Face calls the files of a state dict that it divides
MAX_DEPTH = 12  # parts of a prefix
BATCHES = "num_batches_tracked"  # which batch norm counts, and nothing needs
# Wrappers around a part of a network: DataParallel, torch.compile, FSDP, activation checkpointing.
WRAPPED = re.compile(r"(?<=\.)(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# What Lightning keeps next to the state dict that it loads.
SET_ASIDE = re.compile(rf"(callbacks|current_model_state|averaging_state){NEST}")
NO_HEAD = "has to name its last layer in its attribute output_layer, as 'fc'"  # a model, to have it swapped


@dataclass
class Match:
    """A model's state dict as far as the tensors below one prefix give it, and what is wrong with it."""

    prefix: str
    theirs: State  # by the names below the prefix, with the last layer from beside it
    state: State = field(default_factory=dict)  # by the model's names
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)
    headless: bool = False  # only the head is missing, or is made of other layers
    error: str = ""  # of the layout
    notes: list[str] = field(default_factory=list)
    head_notes: list[str] = field(default_factory=list)  # of a last layer that is taken
    undecided: list[str] = field(default_factory=list)  # layers of which each could be the head, or one that is unlike
    aside: list[str] = field(default_factory=list)  # tensors of auxiliary heads

    @property
    def faults(self) -> int:
        """The number of tensors that are wrong; where only the head is another one, those of the head are not."""
        return len(self.misshapen) + (0 if self.headless else len(self.missing) + len(self.unexpected))


def find_match(model: nn.Module, tensors: State, head: list[str], loose: set[str], source: str = "") -> Match:
    """Return the match of the prefix that fits the model best; WeightsError if several fit, with different numbers.

    The tensors ``loose`` may have another shape than the model's.
    """
    expected = model.state_dict()
    matches = [_match(model, expected, head, tensors, prefix) for prefix in _prefixes(tensors, len(expected))]
    fitting = [match for match in matches if not match.error and match.faults == len(loose & set(match.misshapen))]
    query = [match for match in fitting if re.search(f"encoder_q[{NEST}.]", match.prefix)]  # MoCo's, which was trained
    distinct: list[Match] = []
    for match in query or fitting:
        if not any(_same(match.state, other.state) for other in distinct):
            distinct.append(match)
    keys = {match.prefix: match.prefix[:-1].replace(NEST, ".") for match in distinct}
    if len(distinct) > 1 and len(main := _without_averages(distinct)) == 1:
        others = alternatives(keys[match.prefix] for match in distinct if match is not main[0])
        main[0].notes.append(f"{_where(keys[main[0].prefix])} taken; for those kept beside them, pass key={others}")
        return main[0]
    if len(distinct) > 1:
        raise WeightsError(
            f"{source}several of its state dicts fit the model; choose one by key={alternatives(keys.values())}"
        )
    if distinct and (_is_average(distinct[0]) or SET_ASIDE.match(distinct[0].prefix)):
        distinct[0].notes.append(f"{_where(keys[distinct[0].prefix])} taken, because nothing else fits")
    return distinct[0] if distinct else min(matches, key=lambda match: _near(model, match))


def _near(model: nn.Module, match: Match) -> tuple[bool, bool, int, int]:
    """A key that sorts first what an error should be about: a known layout or network, or most of the model's names."""
    found = len(match.state) - len(match.unexpected)
    return not match.error, "model" not in _options(model, match.state), -found, len(match.prefix)


def _options(model: nn.Module, state: State) -> dict[str, object]:
    """The options that a network with these tensors is built with, as far as the model knows such networks."""
    return model.options_of(state) if hasattr(model, "options_of") else {}  # type: ignore[operator]


def _differing(model: nn.Module, expected: State, state: State) -> dict[str, object]:
    own = _options(model, expected)
    return {option: value for option, value in _options(model, state).items() if own.get(option) != value}


def _where(key: str) -> str:
    return f"the weights at key={key!r} were" if key else "the weights without a prefix were"


def _is_average(match: Match) -> bool:
    """Whether a module averages the weights, as ``ema_model`` does, in a state dict that may have them, too."""
    return any(map(AVERAGE.match, match.prefix.rpartition(NEST)[2].split(".")))


def _without_averages(matches: list[Match]) -> list[Match]:
    """What was trained, of matches in one state dict; separate dicts of averages are not ruled out."""
    main = [match for match in matches if not SET_ASIDE.match(match.prefix)]
    dicts = {match.prefix.rpartition(NEST)[0] for match in main}
    return [match for match in main if not _is_average(match)] if len(dicts) == 1 else main


def _same(one: State, other: State) -> bool:
    def equal(a: Tensor, b: Tensor) -> bool:
        return a.shape == b.shape and (a.is_meta or b.is_meta or bool((a == b).all()))

    return one.keys() == other.keys() and all(equal(tensor, other[name]) for name, tensor in one.items())


def _prefixes(tensors: State, size: int) -> list[str]:
    """Whatever stands before enough names to be the network's; none comes first."""
    counts: Counter[str] = Counter({"": 0})
    for name in tensors:
        ends = [match.end() for match in re.finditer(f"[{NEST}.]", name[:300])][:MAX_DEPTH]
        counts.update({"", *(name[:end] for end in ends)})
    found = [prefix for prefix, count in counts.most_common() if count >= max(1, size // 4) or not prefix]
    return sorted(found[:TRIES], key=len)


def _match(model: nn.Module, expected: State, head: list[str], tensors: State, prefix: str) -> Match:
    theirs = {name[len(prefix) :].replace(NEST, "."): t for name, t in tensors.items() if name.startswith(prefix)}
    plain = [name if name in expected else WRAPPED.sub("", name) for name in theirs]
    if len({*plain}) == len(plain):
        theirs = dict(zip(plain, theirs.values(), strict=True))
    theirs = {name: t for name, t in theirs.items() if name in expected or not _is_aside(name)}
    match = Match(prefix, theirs)
    slot = slot_of(expected, head) if head else None
    try:
        match.state = _renamed(model, expected, head, slot, match, tensors)
    except WeightsError as error:
        match.error = str(error)
        return match
    counted = {name: _counted(name, tensor, expected) for name, tensor in match.state.items()}
    state = match.state = {name: tensor for name, tensor in counted.items() if tensor is not None}
    match.missing = [n for n in expected if n not in state and not n.endswith(BATCHES)]
    match.unexpected = [name for name in state if name not in expected]
    match.misshapen = [name for name in expected if name in state and expected[name].shape != state[name].shape]
    extra = {name: state[name] for name in match.unexpected}
    groups = {name.partition(".")[0] for name in expected if name not in head}
    outer = {name: t for name, t in extra.items() if name.partition(".")[0] not in groups}
    chain = heads_of_trunk(outer, slot) if slot else set()
    match.headless = bool(head and match.missing) and set(match.missing) == set(head) and all(
        name.startswith(f"{_output(head)}.") or is_head_name(name) or name.partition(".")[0] in chain
        or name.rpartition(".")[0] in match.undecided
        for name in match.unexpected
    )  # fmt: skip
    return match


def _counted(name: str, tensor: Tensor, expected: State) -> Tensor | None:
    """A tensor; a counter of batches as the model has it, whatever a conversion made of it, or None if it is lost."""
    if not name.endswith(BATCHES) or (name in expected and tensor.is_meta):
        return tensor
    if name not in expected or tensor.numel() != 1 or not tensor.isfinite().all():
        return None
    return tensor.reshape(()).long() if tensor.dim() or tensor.is_floating_point() else tensor


def _is_aside(name: str) -> bool:
    """Whether a tensor counts operations or averaged models, or belongs to an average of the network."""
    first, dot, _ = name.partition(".")
    return name.rpartition(".")[2] in COUNTERS or bool(dot and AVERAGE.match(first))


def _output(head: list[str]) -> str:
    return head[0].rpartition(".")[0]


def _renamed(
    model: nn.Module, expected: State, head: list[str], slot: Slot | None, match: Match, tensors: State
) -> State:
    """Give the tensors the model's names: by its method ``adapt``, and the head by its name or shape."""
    state: Any = match.theirs
    if state.keys() - expected.keys() and hasattr(model, "adapt"):
        state = model.adapt(state)  # type: ignore[operator]
    if slot is None:
        return state
    if any(name in state for name in head):
        own = own_head(state, slot)
        if own is None:
            return state
        rest = {name: t for name, t in state.items() if name not in own.originals}
        if own.normalized:
            match.undecided, match.aside = [own.layer], [*own.originals]
            return rest
        match.head_notes += own.notes
        return rest | dict(own.tensors)
    for names, unmatched in [(state, [name for name in state if name not in expected])] + [
        (names, [*names]) for names in _levels_above(tensors, match.prefix)
    ]:
        found, undecided = find_head(names, unmatched, slot)
        if found:
            rest = {name: t for name, t in state.items() if name not in {*found.originals, *found.others}}
            match.aside = [name for name in found.others if name in state]
            match.theirs = {**match.theirs, **found.originals}
            match.head_notes += found.notes
            return rest | dict(found.tensors)
        match.undecided = match.undecided or undecided
    return state


def _levels_above(tensors: State, prefix: str) -> Iterator[dict[str, Tensor]]:
    """What stands next to a trunk: ``fc.weight`` next to ``backbone.conv1.weight``, level by level."""
    while prefix:
        prefix, inner = re.sub(f"[^.{NEST}]*[.{NEST}]$", "", prefix), prefix
        beside = [name for name in tensors if name.startswith(prefix) and not name.startswith(inner)]
        yield {name[len(prefix) :].replace(NEST, "."): tensors[name] for name in beside}


def first_layer(expected: State) -> list[str]:
    """Return the names of the first layer's tensors: those that begin as the first one, up to the layer's own name.

    Example:
        >>> first_layer(dict.fromkeys(["convs.0.bias", "convs.0.lin.weight", "convs.1.bias"]))
        ['convs.0.bias', 'convs.0.lin.weight']
    """
    first, *rest = next(iter(expected), "").split(".")
    prefix = f"{first}.{rest[0]}." if rest and rest[0].isdigit() else f"{first}."
    return [name for name in expected if name.startswith(prefix)]


def misfit(
    model: nn.Module, match: Match, source: str, swap_head: bool = False, adapt_input: bool = False
) -> WeightsError:
    """Return an error of one line: what does not fit, and with which options the model would.

    Neither classes are named to who swaps the head, nor channels to who adapts the input, unless it cannot be.
    """
    expected, name = model.state_dict(), type(model).__name__
    if match.error:
        return WeightsError(f"{source}the weights do not fit this {name} ({match.error})")
    shapes = [f"{n} {list(match.state[n].shape)}, not {list(expected[n].shape)}" for n in match.misshapen]
    kinds = (("missing", match.missing), ("unexpected", match.unexpected), ("of another shape", shapes))
    faults = "; ".join(f"{kind}: {listed(names)}" for kind, names in kinds if names)
    problem = f"{source}the weights do not fit this {name} ({faults})"
    head = [name for name in expected if name.startswith(f"{getattr(model, 'output_layer', None)}.")]
    options = _differing(model, expected, match.state)
    trunk = _differing(model, expected, {name: expected[name] for name in head} | dict(match.state))
    inside = {*match.misshapen} - {*head} - {*first_layer(expected)}
    if match.headless and not inside and not trunk.keys() - {"in_channels"}:
        options = trunk
    if swap_head:
        options.pop("num_classes", None)
    if adapt_input and options.keys() - {"in_channels", "num_classes"}:
        options.pop("in_channels", None)
    if "model" in options:
        problem += f"; they are weights of {options.pop('model')}"
    elif not options.keys() - {"num_classes"}:
        if swap_head and not head:
            return WeightsError(f"{problem}; to swap its head, {name} {NO_HEAD}")
        left = match.faults - len({*match.misshapen} & {*head} if options or swap_head else ())
        return WeightsError(f"{problem}; {_advice(model, match, expected, source, left or match.faults)}")
    elif not options.keys() - {"in_channels", "num_classes"} and not adapt_input:
        return WeightsError(problem, options, _adapting(match, expected, head))
    return WeightsError(problem, options)


def _adapting(match: Match, expected: State, head: list[str]) -> dict[str, str]:
    """With what to load weights for other inputs, and perhaps other classes; nothing if that would not do."""
    others = [] if match.headless else match.missing + match.unexpected
    first = {*first_layer(expected)}
    if others or {*match.misshapen} - {*head} - first or first & {*head}:
        return {}
    if match.headless or {*match.misshapen} & {*head}:
        return {"adapt_input=True and swap_head=True": f"to keep the initial {', '.join(head)}"}
    return {"adapt_input=True": ""}


def _advice(model: nn.Module, match: Match, expected: State, source: str, faults: int) -> str:
    """What to do about weights of which no options of the model are known that would fit, of so many wrong tensors."""
    if faults == len(match.missing) and {*match.missing} <= {name for name, _ in model.named_buffers()}:
        saved = "running means and variances are in state_dict(), not in named_parameters(): save the former"
        return f"{saved}; those of a network with another normalization, such as GroupNorm, do not fit"
    if part := PART.search(source):
        return f"it is one of the {int(part[1])} parts of a state dict; give the index next to it (.index.json)"
    inside = {name.partition(".")[0] for name in expected}
    outer = [name for name in match.unexpected if name.partition(".")[0] not in inside]
    if outer and len(outer) == faults:
        return "give the state dict without these, if they are no part of the network"
    if faults >= len(expected) // 2:
        return "they are of another network, or of one with other options"
    return "build the model with the options that they were saved with"


def listed(names: Iterable[str]) -> str:
    """A few of several names, which may be a file's."""
    return few(map(printable, names), 4)

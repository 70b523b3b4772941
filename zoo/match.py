"""Which tensors of a file are a model's: prefixes, heads and layouts of others are recognized, nothing is guessed."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from comhe.errors import WeightsError

from .state import COUNTERS, NEST, State, alternatives, printable

# What others call the last layer. Trailing parts: the sequence or the module that it may be in.
HEAD = re.compile(r"(fc|linear|classifier|head|heads|last_linear|output|out|logits|cls|cls_head|predictions?|final)"
                  r"(\.\d+|\.fc|\.linear|\.classifier|\.head)?\.(weight|bias)")  # fmt: skip
TRIES = 64  # prefixes that are tried, those of most tensors first
MAX_DEPTH = 12  # parts of a prefix
BATCHES = "num_batches_tracked"  # which batch norm counts, and nothing needs


@dataclass
class Match:
    """A model's state dict as far as the tensors below one prefix give it, and what is wrong with it."""

    prefix: str
    theirs: State  # by the names below the prefix
    state: State = field(default_factory=dict)  # by the model's names
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)
    headless: bool = False  # only the head is missing, or is made of other layers
    error: str = ""  # of the layout

    @property
    def faults(self) -> int:
        """The number of tensors that are wrong; where only the head is another one, those of the head are not."""
        return len(self.misshapen) + (0 if self.headless else len(self.missing) + len(self.unexpected))

    @property
    def near(self) -> tuple[bool, int, int]:
        """A key that sorts first what an error should be about: a known layout, or most of the model's names."""
        found = len(self.state) - len(self.unexpected)
        return not self.error, -found, len(self.prefix)


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
    if len(distinct) > 1:
        keys = [match.prefix[:-1].replace(NEST, ".") for match in distinct]
        raise WeightsError(f"{source}several of its state dicts fit the model; choose one by key={alternatives(keys)}")
    return distinct[0] if distinct else min(matches, key=lambda match: match.near)


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
    theirs = {name: t for name, t in theirs.items() if name in expected or not _counts(name)}
    beside = _head_beside(tensors, prefix)
    match = Match(prefix, theirs)
    try:
        match.state = _renamed(model, expected, head, theirs, beside)
    except WeightsError as error:
        match.error = str(error)
        return match
    state = match.state = {n: t for n, t in match.state.items() if n in expected or not n.endswith(BATCHES)}
    match.missing = [n for n in expected if n not in state and not n.endswith(BATCHES)]
    match.unexpected = [name for name in state if name not in expected]
    match.misshapen = [name for name in expected if name in state and expected[name].shape != state[name].shape]
    match.headless = bool(head and match.missing) and set(match.missing) == set(head) and all(
        HEAD.fullmatch(_last_parts(name)) or name.startswith(f"{_output(head)}.") for name in match.unexpected
    )  # fmt: skip
    return match


def _counts(name: str) -> bool:
    """Whether a tensor counts operations or averaged models."""
    return name.rpartition(".")[2] in COUNTERS


def _output(head: list[str]) -> str:
    return head[0].rpartition(".")[0]


def _last_parts(name: str) -> str:
    return ".".join(name.split(".")[-3:]) if re.search(r"\.(\d+|fc|linear|classifier|head)\.\w+$", name) else name


def _head_beside(tensors: State, prefix: str) -> dict[str, Tensor]:
    """The head of a trunk that stands next to the trunk: ``fc.weight`` next to ``backbone.conv1.weight``."""
    while prefix:
        prefix, inner = re.sub(f"[^.{NEST}]*[.{NEST}]$", "", prefix), prefix
        names = {name: name[len(prefix) :].replace(NEST, ".") for name in tensors if name.startswith(prefix)}
        found = {short: tensors[n] for n, short in names.items() if not n.startswith(inner) and HEAD.fullmatch(short)}
        if found:
            return found
    return {}


def _renamed(model: nn.Module, expected: State, head: list[str], theirs: State, beside: State) -> State:
    """Give the tensors the model's names: by its method ``adapt``, and the head by what others call one."""
    state: Any = theirs
    if theirs.keys() - expected.keys() and hasattr(model, "adapt"):
        state = model.adapt(theirs)  # type: ignore[operator]
    if not head or any(name in state for name in head):
        return state
    weight, bias = (f"{_output(head)}.{part}" for part in ("weight", "bias"))
    for names in (state, beside):
        others = [name for name in names if HEAD.fullmatch(name) and (names is beside or name not in expected)]
        layers = {name.rpartition(".")[0] for name in others}
        if len(layers) != 1 or set(head) != {n for n in (weight, bias) if n in expected}:
            continue
        (layer,) = layers
        ours = {f"{layer}.{n.rpartition('.')[2]}": n for n in head}
        if set(others) == set(ours) and _is_head(names[f"{layer}.weight"], expected[weight]):
            rest = {name: t for name, t in state.items() if name not in ours}
            return rest | {ours[name]: names[name] for name in ours}
    return state


def _is_head(theirs: Tensor, ours: Tensor) -> bool:
    """Whether two weights differ in the number of classes at most."""
    return theirs.dim() == ours.dim() and theirs.shape[1:] == ours.shape[1:]


def misfit(model: nn.Module, match: Match) -> str:
    """Say in one line what does not fit, and with which options the model would."""
    expected, name = model.state_dict(), type(model).__name__
    if match.error:
        return f"the weights do not fit this {name} ({match.error})"
    shapes = [f"{n} {list(match.state[n].shape)}, not {list(expected[n].shape)}" for n in match.misshapen]
    kinds = (("missing", match.missing), ("unexpected", match.unexpected), ("of another shape", shapes))
    faults = "; ".join(f"{kind}: {listed(names)}" for kind, names in kinds if names)
    return f"the weights do not fit this {name} ({faults}); {_advice(model, match, expected)}"


def _advice(model: nn.Module, match: Match, expected: State) -> str:
    options: dict[str, object] = {}
    if hasattr(model, "options_of"):
        options, own = model.options_of(match.state), model.options_of(expected)  # type: ignore[operator]
        options = {option: value for option, value in options.items() if own.get(option) != value}
    other = options.pop("model", None)
    texts = [f"they are weights of {other}"] if other else []
    if options:
        settings = ", ".join(f"{option}={value!r}" for option, value in options.items())
        texts.append(f"build the model with {settings}")
        if options.keys() == {"in_channels"} and match.faults == 1:
            texts[-1] += ", or pass adapt_input=True"
    return "; ".join(texts) or "build the model with the options that they were saved with"


def listed(names: Any, most: int = 4) -> str:
    """The first of several names, and how many more there are."""
    names = list(names)
    more = len(names) - most
    return ", ".join(map(printable, names[:most])) + (f" and {more} more" if more > 0 else "")

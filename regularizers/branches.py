"""How the matrices of a model follow each other, by their shapes: what feeds what, and which layers are branches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isqrt

from torch import nn

from .computed import WRAPPERS

COLORS = 4  # channels that images have
FEW, MOST_COPIES = 16, 4  # outputs that may be those for classes, and how often they are joined at most
CONTAINERS = (nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Matrix:
    """A candidate: a weight with its number of outputs and inputs, or (without a view) both of them in any order."""

    name: str
    inputs: frozenset[int]
    outputs: frozenset[int]
    role: str = "layer"  # or "convolution", which may be flattened; "inner", never the output; "bare", without a view
    trained: bool = True
    group: str | None = None  # the convolution whose output it makes together with others

    def feeds(self, other: "Matrix", flattened: bool = True) -> bool:
        """Whether the other one may take this one's outputs for its inputs, ``flattened`` maps included or not."""
        flattened = flattened and self.role == "convolution" and other.role != "convolution"
        return any(n == m or (flattened and m % n == 0) for n in self.outputs for m in other.inputs)

    def repeats(self, other: "Matrix", wide: int, n: int) -> bool:
        """Whether ``wide`` inputs of another layer may be several times these n outputs: flattened maps, or copies.

        Of few outputs, as those for two classes, nearly everything is a multiple.
        """
        flattened = self.role == "convolution" and other.role != "convolution"
        return wide % n == 0 and (flattened or n >= FEW or wide // n <= MOST_COPIES)

    def unfolds(self, other: "Matrix") -> bool:
        """Whether the other one, a convolution of feature maps, may take the outputs as square maps of pixels."""
        maps = self.role == "layer" and other.role == "convolution"
        pairs = [(n, m) for n in self.outputs for m in other.inputs if n > m > COLORS and n % m == 0]
        return maps and any(isqrt(n // m) ** 2 == n // m for n, m in pairs)

    def modulates(self, other: "Matrix") -> bool:
        """Whether these outputs may scale and shift the maps of the other one, a convolution."""
        pairs = [(n, m) for n in self.outputs for m in other.outputs]
        return self.role == "layer" and other.role == "convolution" and any(n == 2 * m for n, m in pairs)


def together(found: Sequence[Matrix], possible: Sequence[Matrix]) -> list[Matrix]:
    """The matrices found, and the others of their groups.

    Example:
        >>> own, neighbors = (Matrix(name, frozenset({4}), frozenset({3}), group="conv") for name in ("r", "l"))
        >>> [matrix.name for matrix in together([own], [neighbors, own])]
        ['l', 'r']
    """
    groups = {m.group for m in found} - {None}
    return [m for m in possible if m in found or m.group in groups]


def twins(taken: Matrix, matrices: Sequence[Matrix]) -> list[Matrix]:
    """The layers of the same module as the one that is taken, with the same inputs and outputs.

    Example:
        >>> own, neighbors = (Matrix(f"conv.{name}", frozenset({4}), frozenset({3})) for name in ("r", "l"))
        >>> twins(own, [neighbors, own]) == [neighbors]
        True
    """
    owner = taken.name.rpartition(".")[0]
    alike = [m for m in matrices if m is not taken and m.name.rpartition(".")[0] == owner != ""]
    return [m for m in alike if (m.inputs, m.outputs) == (taken.inputs, taken.outputs)]


def below(name: str, path: str) -> bool:
    """Whether a layer is the module at a path, or a part of it.

    Example:
        >>> below("body.0", "body"), below("body2", "body"), below("body", "")
        (True, False, True)
    """
    return not path or name == path or name.startswith(path + ".")


def join(*parts: str) -> str:
    """A name from its parts, of which some may be empty.

    Example:
        >>> join("", "body", "0")
        'body.0'
    """
    return ".".join(part for part in parts if part)


def unwrapped(module: nn.Module) -> nn.Module:
    """The module within what torch.compile and others made of it, whose names they are.

    Example:
        >>> import torch
        >>> layer = nn.Linear(4, 3)
        >>> unwrapped(torch.compile(layer)) is layer
        True
    """
    while (key := next((key for key in WRAPPERS if key in module._modules), None)) is not None:
        inner = module._modules[key]
        if inner is None:
            break
        module = inner
    return module


def children(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The children of a module with their names in the model.

    Example:
        >>> [name for name, _ in children(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), "body")]
        ['body.0', 'body.1']
    """
    for key, child in module.named_children():
        yield join(path, key), unwrapped(child)


def branch_ends(module: nn.Module, path: str, matrices: Sequence[Matrix]) -> list[Matrix]:
    """The last matrix below a module; where branches stand side by side in it, the last one of each.

    A child is a branch if its outputs fit the inputs of no later child, and if the module is a ModuleList or ModuleDict
    or the child takes the same inputs as the last one.

    Example:
        >>> heads = nn.ModuleDict({"color": nn.Linear(4, 2), "shape": nn.Linear(4, 3)})
        >>> matrices = [Matrix(f"heads.{k}", frozenset({4}), frozenset({m.out_features})) for k, m in heads.items()]
        >>> [matrix.name for matrix in branch_ends(heads, "heads", matrices)]
        ['heads.color', 'heads.shape']
    """
    inside = [m for m in matrices if below(m.name, path)]
    parts = [(part, name, child) for name, child in children(module, path) if (part := _inside(inside, name))]
    if not parts:
        return inside[-1:]
    ends = [branch_ends(child, name, part) for part, name, child in parts]
    firsts = [part[0] for part, _, _ in parts]
    if type(module).forward is nn.Sequential.forward:  # a subclass may call its children side by side
        return ends[-1]
    found = []
    for index, end in enumerate(ends):
        later = [(m, first) for m in end for first in firsts[index + 1 :]]
        alike = bool(firsts[index].inputs & firsts[-1].inputs)
        apart = isinstance(module, (*CONTAINERS, nn.Sequential)) and not any(m.feeds(first) for m, first in later)
        if (alike or apart) and not any(m.feeds(first, flattened=False) for m, first in later):
            found += end
    return found


def ends(possible: Sequence[Matrix], every: Sequence[Matrix]) -> list[Matrix]:
    """The layers whose outputs no other layer takes, but for the first ones, which take the model's inputs.

    Example:
        >>> matrices = [Matrix(str(a), frozenset({a}), frozenset({b})) for a, b in ((2, 4), (4, 8), (3, 5))]
        >>> [matrix.name for matrix in ends(matrices, matrices)]
        ['4', '3']
    """
    stem = stems(possible, every)
    place = {id(m): index for index, m in enumerate(every)}
    rest = [m for m in every if m not in stem]

    def taken(m: Matrix) -> bool:
        """Maps are flattened for what is registered later: of few maps nearly every width is a multiple."""
        own = place[id(m)]
        fed = any(m.feeds(o, flattened=own < place[id(o)]) for o in rest if o is not m)
        return fed or any(map(m.unfolds, every[own + 1 : own + 2]))

    return [m for m in possible if m not in stem and not taken(m)]


def stems(possible: Sequence[Matrix], every: Sequence[Matrix]) -> Sequence[Matrix]:
    """The first layer, if others take its outputs; or those first ones whose outputs the next layer takes, joined.

    So is the first convolution of an image, where an embedding of something else, as of the time, is registered before.

    Example:
        >>> sizes = {"near": (3, 8), "far": (3, 8), "body": (16, 3)}
        >>> matrices = [Matrix(name, frozenset({a}), frozenset({b})) for name, (a, b) in sizes.items()]
        >>> [matrix.name for matrix in stems(matrices, matrices)]
        ['near', 'far']
    """
    for count in range(2, len(every)):
        first = every[:count]
        narrows = any(min(m.inputs, default=0) > min(m.outputs, default=0) for m in first)  # as a head does
        if narrows or any(before.feeds(first[-1]) for before in first[:-1]):
            break
        if sum(min(m.outputs, default=0) for m in first) in every[count].inputs:
            return first
    firsts = [*every[:1]]
    image = next((m for m in every if m.role == "convolution" and min(m.inputs) <= COLORS), None)
    if image is not None and not any(m.feeds(image) for m in every[: every.index(image)]):
        firsts.append(image)
    return [m for m in firsts if m not in possible or any(m.feeds(other) for other in every if other is not m)]


def is_fed(matrix: Matrix, every: Sequence[Matrix], flattened: bool = True) -> bool:
    """Whether another layer may make this one's inputs; one that nothing feeds takes inputs of the model.

    Example:
        >>> first, last = Matrix("a", frozenset({2}), frozenset({4})), Matrix("b", frozenset({4}), frozenset({3}))
        >>> is_fed(first, [first, last]), is_fed(last, [first, last])
        (False, True)
    """
    return any(other.feeds(matrix, flattened) for other in every if other is not matrix)


def side_by_side(core: nn.Module, prefix: str, taken: Matrix, last: Sequence[Matrix]) -> list[Matrix]:
    """The layer, or all heads of the container that it is in.

    Example:
        >>> model = nn.Sequential(nn.ModuleList([nn.Linear(4, 2), nn.Linear(4, 3)]))
        >>> matrices = [Matrix(f"0.{i}", frozenset({4}), frozenset({2 + i})) for i in range(2)]
        >>> [matrix.name for matrix in side_by_side(model, "", matrices[1], matrices)]
        ['0.0', '0.1']
    """
    inside = [(path, child) for path, child in children(core, prefix) if below(taken.name, path)]
    while inside:
        path, module = inside[0]
        found = branch_ends(module, path, last) if isinstance(module, CONTAINERS) else []
        if taken in found:
            return found
        inside = [(name, child) for name, child in children(module, path) if below(taken.name, name)]
    return [taken]


def rivals(
    core: nn.Module, prefix: str, taken: Matrix, possible: Sequence[Matrix], last: Sequence[Matrix]
) -> list[Matrix]:
    """The ends of other children that may be the output as well as the one that is taken.

    They start from the same inputs; or they end with a layer beside the one that is taken, which nothing else feeds.

    Example:
        >>> model = nn.ModuleDict({"policy": nn.Linear(4, 2), "value": nn.Linear(4, 3)})
        >>> policy, value = (Matrix(name, frozenset({4}), frozenset({m.out_features})) for name, m in model.items())
        >>> [matrix.name for matrix in rivals(model, "", value, [policy, value], [policy, value])]
        ['policy']
    """
    if isinstance(core, nn.Sequential):  # the heads may be in its last module
        inside = next(((child, path) for path, child in children(core, prefix) if below(taken.name, path)), None)
        return rivals(*inside, taken, possible, last) if inside else []
    if isinstance(core, nn.ModuleList):
        return []
    parts = [[m for m in possible if below(m.name, path)] for path, _ in children(core, prefix)]
    own = next((part for part in parts if taken in part), [taken])
    found = []
    for part in parts:
        if not part or part is own or part[-1] not in last:
            continue
        feeding = [m for m in possible if m not in part and m not in own and m.feeds(own[0], flattened=False)]
        beside = part[-1].inputs == own[0].inputs and (len(part) == 1 or not feeding)
        if beside or part[0].inputs & own[0].inputs:
            found.append(part[-1])
    return found


def _inside(matrices: Sequence[Matrix], path: str) -> list[Matrix]:
    return [m for m in matrices if below(m.name, path)]

"""Which layers take the outputs of several others joined, told by their shapes."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from .branches import Matrix, below, branch_ends, children, is_fed


def loose_ends(possible: Sequence[Matrix], every: Sequence[Matrix]) -> list[Matrix]:
    """The layers whose outputs no later layer takes, alone or joined to another's, with two neurons or more.

    Example:
        >>> sizes = {"down": (3, 8), "up": (16, 5), "exit": (8, 5), "last": (8, 5)}
        >>> matrices = [Matrix(name, frozenset({a}), frozenset({b})) for name, (a, b) in sizes.items()]
        >>> [matrix.name for matrix in loose_ends(matrices, matrices)]
        ['up', 'exit', 'last']
    """
    found, made = [], _made(every)
    for m in possible:
        start = every.index(m)
        later = every[start:]
        taken = any(m.outputs & other.inputs for other in later[1:])
        taken |= any(m.unfolds(other) or m.modulates(other) for other in later[1:2])
        for index, (before, other) in enumerate(pairwise(later), start + 1):
            # What the layer before makes alone is not joined of this one's outputs and others.
            taken |= (before is m or not before.feeds(other)) and _joins(m, every, index, made)
        if m.role != "bare" and max(m.outputs) > 1 and not taken:
            found.append(m)
    return found


def passed_on(matrix: Matrix, every: Sequence[Matrix]) -> bool:
    """Whether a later layer takes the outputs of this one joined to others: no layer alone makes its inputs.

    Example:
        >>> sizes = {"stem": (3, 16), "down": (16, 32), "up": (48, 16)}
        >>> matrices = [Matrix(name, frozenset({a}), frozenset({b})) for name, (a, b) in sizes.items()]
        >>> [matrix.name for matrix in matrices if passed_on(matrix, matrices)]
        ['stem', 'down']
    """
    start, made = every.index(matrix) + 1 if matrix in every else len(every), _made(every)
    later = range(start, len(every))
    return any(_joins(matrix, every, index, made) and not is_fed(every[index], every) for index in later)


def gated(prefix: str, every: Sequence[Matrix]) -> list[Matrix]:
    """The layers one half of whose outputs gates the other, as in GEGLU: the next layer takes half as many inputs.

    It is in the same module, or in the same child of the model (at the prefix) and nothing else makes its inputs.

    Example:
        >>> sizes = {"block.gated": (8, 64), "block.back": (32, 8)}
        >>> matrices = [Matrix(name, frozenset({a}), frozenset({b})) for name, (a, b) in sizes.items()]
        >>> [matrix.name for matrix in gated("", matrices)]
        ['block.gated']
    """
    found = []
    for index, (m, following) in enumerate(pairwise(every)):
        own, other = (each.name[len(prefix) :].lstrip(".").split(".") for each in (m, following))
        halves = any(2 * n in m.outputs for n in following.inputs)
        near = other[1:] and below(m.name, following.name.rpartition(".")[0]) and not m.inputs & following.inputs
        if halves and own[0] == other[0] and own[1:] and (near or not is_fed(following, every[:index])):
            found.append(m)
    return found


def _made(every: Sequence[Matrix]) -> dict[int, list[tuple[int, Matrix]]]:
    """The first two layers that make each number of outputs, with their indices."""
    made: dict[int, list[tuple[int, Matrix]]] = {}
    for index, m in enumerate(every):
        for n in m.outputs:
            made[n] = [*made.get(n, []), (index, m)][:2]
    return made


def _joins(matrix: Matrix, every: Sequence[Matrix], index: int, made: dict[int, list[tuple[int, Matrix]]]) -> bool:
    """Whether the layer of this index takes several times these outputs, or these and those of one before it."""
    sizes = [(wide, n) for wide in every[index].inputs for n in matrix.outputs]
    if any(matrix.repeats(every[index], wide, n) for wide, n in sizes):
        return True
    return any(i < index and m is not matrix for wide, n in sizes for i, m in made.get(wide - n, ()))


def merged(core: nn.Module, prefix: str, every: Sequence[Matrix]) -> list[Matrix]:
    """The ends of neighboring children, all of which the next child takes joined: no layer alone makes its inputs.

    Example:
        >>> model = nn.ModuleDict({"text": nn.Linear(9, 7), "image": nn.Linear(8, 5), "both": nn.Linear(12, 3)})
        >>> matrices = [Matrix(k, frozenset({m.in_features}), frozenset({m.out_features})) for k, m in model.items()]
        >>> [matrix.name for matrix in merged(model, "", matrices)]
        ['text', 'image']
    """
    parts = _parts(core, prefix, every)
    lasts = [branch_ends(child, path, part) for path, child, part in parts]
    sizes = [sum(min(m.outputs, default=0) for m in last) for last in lasts]
    for end, (_, _, part) in enumerate(parts):
        for start in range(end):
            joined = [m for last in lasts[start:end] for m in last] if sum(sizes[start:end]) in part[0].inputs else []
            if len(joined) > 1 and not is_fed(part[0], _exits(parts[:start] + parts[end + 1 :])):
                return joined
    return []


def takes_joined(core: nn.Module, prefix: str, last: Matrix, free: Sequence[Matrix], every: Sequence[Matrix]) -> bool:
    """Whether the child with the last layer starts from these ends, joined: no layer alone makes its inputs.

    Ends that start from the same inputs, or from what else is joined to them, may be outputs beside it.

    Example:
        >>> model = nn.ModuleDict({"tower": nn.Linear(9, 4), "score": nn.Linear(8, 1)})  # of two inputs
        >>> matrices = [Matrix(k, frozenset({m.in_features}), frozenset({m.out_features})) for k, m in model.items()]
        >>> takes_joined(model, "", matrices[1], matrices[:1], matrices)
        True
    """
    parts = _parts(core, prefix, every)
    own = next((part for _, _, part in parts if last in part), None)
    if own is None or not free:
        return False
    taken = merged(core, prefix, every)
    embedded = {n for m in every if not m.inputs for n in m.outputs}
    for _, _, part in parts:
        joined = [m for m in free if m in part]
        rest = {wide - n for wide in own[0].inputs for m in joined for n in m.outputs}
        if len(own) == 1 < len(part) and rest & (part[0].inputs | embedded):  # one layer is no critic of actions
            taken += joined
        elif joined and (part is own or part[0].inputs & (own[0].inputs | rest)):
            return False
    loose = [m for m in free if m.role == "bare"] + loose_ends(free, every)
    alone = any(m not in taken for m in loose)
    return not alone and not is_fed(own[0], _exits([part for part in parts if part[2] is not own]))


def _parts(core: nn.Module, prefix: str, every: Sequence[Matrix]) -> list[tuple[str, nn.Module, list[Matrix]]]:
    """The children of a model with their layers, those that have any."""
    parts = [(path, child, [m for m in every if below(m.name, path)]) for path, child in children(core, prefix)]
    return [part for part in parts if part[2]]


def _exits(parts: Sequence[tuple[str, nn.Module, list[Matrix]]]) -> list[Matrix]:
    """What may feed other children: of a Sequential, only its last layer. Embeddings do not count."""
    last = (nn.Sequential, nn.ModuleList)
    return [m for _, child, part in parts for m in (part[-1:] if isinstance(child, last) else part) if m.inputs]

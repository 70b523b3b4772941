"""Networks beside the one that is trained: teachers, momentum encoders, averaged weights, perceptual losses."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from torch import nn

from comhe.errors import warn

from .branches import Matrix, below, children
from .computed import walk

_AVERAGES = re.compile(r"AveragedModel$|ModelEma(V\d)?$")
_MAY_AVERAGE = re.compile(r"^Ema(?![a-z])|^EMA|EMA$")  # also EMANet, of expectation-maximization attention
_SURE = {"ema", "teacher"}
_FOLLOWS = _SURE | {"average", "averaged", "avg", "momentum", "old", "polyak", "target"}
_LEADS = {"base", "behavior", "behaviour", "current", "eval", "local", "main", "online", "student"}
_STUDENTS = {"online", "student"}  # only what a copy follows is called so
_ANY = {"model", "module", "net", "network"}
# What "target_net" follows.
_ACTS = {"actor", "agent", "critic", "dqn", "policy", "q", "qf", "qnet", "qnetwork", "value"}


def followers(model: nn.Module, matrices: Sequence[Matrix], included: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """The modules that are not frozen but follow another one, with a reason: a penalty alone would train them.

    Their class averages weights; or their name is that of a module with the same layers and a word such as "ema" or
    "target", of which a warning tells. Those that ``included`` names, or a layer in them, are left out.

    Example:
        >>> model = nn.ModuleDict({"q": nn.Linear(4, 3), "q_target": nn.Linear(4, 3)})
        >>> [*followers(model, [Matrix(name, frozenset({4}), frozenset({3})) for name in model])]
        [('q_target', 'by its name it follows q, and nothing else trains it; include= takes it nevertheless')]
    """

    def layers(path: str) -> list[tuple[str, object, object]]:
        return [(m.name[len(path) :], m.inputs, m.outputs) for m in matrices if below(m.name, path)]

    for parent, module in walk(model):
        siblings = dict(children(module, parent))
        for path, child in siblings.items():
            averages = any(_AVERAGES.search(base.__name__) for base in type(child).__mro__)
            if not averages and not _words(path) & _FOLLOWS:
                continue
            if any(below(glob, path) for glob in included):
                continue
            if not any(m.trained for m in matrices if below(m.name, path)):
                continue
            leads = [other for other in siblings if _leads(other, path, layers(path)) and layers(other) == layers(path)]
            if averages:
                yield path, f"{type(child).__name__} averages weights, and nothing else trains it"
            elif leads:
                said = f"by its name it follows {leads[0]}, and nothing else trains it; include= takes it nevertheless"
                warn(f"{path} is not regularized: {said}")
                yield path, said


def _leads(leader: str, path: str, layers: Sequence[object]) -> bool:
    """Whether "q" is what "q_target" follows; a whole network named "ema" or "teacher" follows any."""
    ours, theirs = _words(path), _words(leader)
    rest, led = ours - _FOLLOWS - _ANY, theirs - _LEADS - _ANY
    if theirs & _FOLLOWS:
        return False
    # Single layers with such names are branches or projections, but for "q" and "q_target".
    if rest:
        single = len(layers) == 1 and theirs & _LEADS and not theirs & _STUDENTS and not ours & _SURE
        return rest == led and not single
    return len(layers) > 1 and bool(ours & _SURE or ("target" in ours and led <= _ACTS))


def _words(path: str) -> set[str]:
    """The words of the last part of a name, in small letters, and its numbers."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", path.rpartition(".")[2])}


def copies(module: nn.Module, path: str, matrices: Sequence[Matrix], heads: Collection[str] = ()) -> list[str]:
    """The names of the children that are networks of their own and are not trained, where another one is.

    Either all matrices of such a child are frozen, and there are several of them (a frozen head has one), or its class
    averages weights, as ``torch.optim.swa_utils.AveragedModel`` and timm's ``ModelEmaV3`` do. A class whose name begins
    with Ema does, if another child has the same layers.

    Args:
        path: the module's name in the model.
        matrices: those of the model.
        heads: names of children that are heads, even if frozen.

    Example:
        >>> model = nn.ModuleDict({"student": nn.Linear(4, 3), "teacher": nn.Sequential()})
        >>> sizes = frozenset({4}), frozenset({3})
        >>> frozen = [Matrix(f"teacher.{i}", *sizes, trained=False) for i in range(2)]
        >>> copies(model, "", [Matrix("student", *sizes), *frozen])
        ['teacher']
    """
    found = []
    networks = {name: [m for m in matrices if below(m.name, name)] for name, _ in children(module, path)}
    shapes = {name: Counter((m.inputs, m.outputs) for m in inside) for name, inside in networks.items()}
    for name, child in children(module, path):
        inside = networks[name]
        classes = [base.__name__ for base in type(child).__mro__]
        others = [shapes[other] for other in networks if other != name]
        repeats = any(other.total() > 1 and other <= shapes[name] for other in others)
        averaged = any(map(_AVERAGES.search, classes)) or (repeats and any(map(_MAY_AVERAGE.search, classes)))
        frozen = len(inside) > 1 and not any(m.trained for m in inside) and name.rpartition(".")[2] not in heads
        if inside and (averaged or frozen):
            found.append(name)
    rest = [m for m in matrices if below(m.name, path) and not any(below(m.name, name) for name in found)]
    return found if any(m.trained for m in rest) else []

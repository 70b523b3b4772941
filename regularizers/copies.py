"""Networks beside the one that is trained: teachers, momentum encoders, averaged weights, perceptual losses."""

import re
from collections.abc import Collection, Sequence

from torch import nn

from .branches import Matrix, below, children

_AVERAGED = re.compile(r"AveragedModel$|ModelEma(V\d)?$|^Ema\w*|^EMA\w*|EMA$")


def copies(module: nn.Module, path: str, matrices: Sequence[Matrix], heads: Collection[str] = ()) -> list[str]:
    """The names of the children that are networks of their own and are not trained, where another one is.

    Either all matrices of such a child are frozen, and there are several of them (a frozen head has one), or its class
    averages weights, as ``torch.optim.swa_utils.AveragedModel`` and timm's ``ModelEmaV3`` do.

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
    for name, child in children(module, path):
        inside = [m for m in matrices if below(m.name, name)]
        averaged = any(_AVERAGED.search(base.__name__) for base in type(child).__mro__)
        frozen = len(inside) > 1 and not any(m.trained for m in inside) and name.rpartition(".")[2] not in heads
        if inside and (averaged or frozen):
            found.append(name)
    rest = [m for m in matrices if below(m.name, path) and not any(below(m.name, name) for name in found)]
    return found if any(m.trained for m in rest) else []

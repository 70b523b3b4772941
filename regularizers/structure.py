"""What a model is made of now: cheap enough to look at in every step."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from comhe.errors import ComheWarning, few

from .computed import walk
from .neurons import odd
from .selection import Layer, called


class RegularizerWarning(ComheWarning):
    """A regularizer follows a change of its model, or has nothing left to regularize."""


class Structure:
    """What decides which layers are selected: the modules by name, the names, shapes and ties of their parameters,
    whether these are complex, sparse or quantized, and which adapters of peft are active, merged or disabled.

    It does not say which tensors these are: FSDP and others replace them in every step.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3))
        >>> structure = Structure(model)
        >>> model[1].weight = nn.Parameter(model[1].weight.detach().half())
        >>> structure.has_changed(model)
        False
        >>> model[1].weight = model[0].weight
        >>> structure.has_changed(model)
        True
    """

    def __init__(self, model: nn.Module) -> None:
        named = list(walk(model))
        self._modules = [module for _, module in named]
        self._adapted = [module for module in self._modules if is_adapter(module)]
        self._glance, self.trainable = self._look()
        self._full = _structure(named)

    def has_changed(self, model: nn.Module) -> bool:
        """Whether the model has another structure now. Updates ``trainable``: ``requires_grad`` of each parameter."""
        glance, self.trainable = self._look()
        if glance == self._glance:
            return False
        named = list(walk(model))
        full, self._glance = _structure(named), glance
        return full != self._full

    def _look(self) -> tuple[tuple[list[Any], ...], list[bool]]:
        """What can be seen of the known modules in a microsecond each."""
        children = [module._modules for module in self._modules]
        tensors = [module._parameters for module in self._modules]
        parameters = [p for each in tensors for p in each.values() if p is not None]
        try:
            shapes: list[Any] = [p.shape for p in parameters]
        except RuntimeError:
            shapes = [_shape(p) for p in parameters]
        glance = (
            _adapters(self._adapted),
            [len(each) for each in children],
            [name for each in children for name, _ in each.items()],  # those of torch.jit are no dictionaries
            [id(child) for each in children for child in each.values()],
            [name for each in tensors for name, _ in each.items()],
            [id(p) for p in parameters],
            [p.dtype for p in parameters],
            shapes,
        )
        return glance, [p.requires_grad for p in parameters]


def _structure(modules: Iterable[tuple[str, nn.Module]]) -> list[Any]:
    found: list[Any] = []
    tensors: dict[int, int] = {}
    for name, module in modules:
        found.append((name, id(module), id(type(module)), *_adapters([module] if is_adapter(module) else [])))
        for key, p in module._parameters.items():
            if p is not None:
                found.append((key, _shape(p), odd(p), tensors.setdefault(id(p), len(tensors))))
    return found


def is_adapter(module: nn.Module) -> bool:
    """Whether a module is a layer of peft, whose weight depends on which of its adapters it uses at present.

    Example:
        >>> is_adapter(nn.Linear(4, 3))
        False
    """
    return all(hasattr(type(module), name) for name in ("merged_adapters", "active_adapters", "disable_adapters"))


def _adapters(modules: Sequence[Any]) -> list[Any]:
    return [(tuple(m.merged_adapters), tuple(m.active_adapters), m.disable_adapters) for m in modules]


def _shape(parameter: nn.Parameter) -> tuple[int, ...] | None:
    try:
        return parameter.shape
    except RuntimeError:  # of a lazy module that has not seen an input
        return None


def changes(before: Sequence[Layer], after: Sequence[Layer]) -> str:
    """What differs between two selections, in a line; empty if nothing does.

    Example:
        >>> old = Layer("fc", nn.Linear(4, 3), "output", (3, 4))
        >>> new = [Layer("fc", nn.Linear(4, 7), "hidden", (7, 4)), Layer("head", nn.Linear(7, 2), "output", (2, 7))]
        >>> changes([old], new)
        'new: head; replaced: fc (7 x 4, was 3 x 4; hidden, was output)'
        >>> changes(new, new)
        ''
    """
    old, new = ({layer.name: layer for layer in layers} for layers in (before, after))
    found = {
        "new": [called(name) for name in new if name not in old],
        "gone": [called(name) for name in old if name not in new],
        "replaced": [_difference(old[name], new[name]) for name in new if _differs(old.get(name), new[name])],
    }
    return "; ".join(f"{what}: {few(names)}" for what, names in found.items() if names)


def _differs(old: Layer | None, new: Layer) -> bool:
    return old is not None and (old.module is not new.module or old.shape != new.shape or old.role != new.role)


def _difference(old: Layer, new: Layer) -> str:
    said = []
    if old.shape != new.shape:
        said.append(f"{' x '.join(map(str, new.shape))}, was {' x '.join(map(str, old.shape))}")
    if old.role != new.role:
        said.append(f"{new.role}, was {old.role}")
    return called(new.name) + (f" ({'; '.join(said)})" if said else "")
